"""Optimisers, and the float32 that every optimiser computes in.

Any `optax.GradientTransformation` will do: a run wraps it in `in_float32`. Those that
read the loss (`optax.polyak_sgd`, `optax.contrib.reduce_on_plateau`) are handed the
objective of the step's global batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from models import layers
from runner.errors import UserError

Tree = Any


def adamw(
    learning_rate: float | optax.Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    max_norm: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW after clipping by the global norm; matrices decay, vectors do not.

    The learning rate stands in the optimiser state (`optax.inject_hyperparams`), which
    is where the log finds it: wrap other optimisers likewise to see theirs. Constants
    and moments are float32 whatever the parameters are.

    The decay follows the rate: a step takes `rate · weight_decay` of a matrix. One of λ
    a step at the peak, whatever the peak is (independent decay, arXiv:2309.14322), is
    `weight_decay=λ / peak`.

    Source: Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2; the b2 and decay
    of Brown et al. 2020 (arXiv:2005.14165), appendix B.
    """
    return in_float32(
        optax.chain(
            optax.clip_by_global_norm(max_norm),
            optax.inject_hyperparams(optax.adamw, static_args=("mask",))(
                learning_rate=learning_rate,
                b1=b1,
                b2=b2,
                eps=eps,
                weight_decay=weight_decay,
                mask=layers.are_matrices,
            ),
        )
    )


def muon(
    learning_rate: float | optax.Schedule,
    *,
    beta: float = 0.95,
    ns_steps: int = 5,
    rms: float = 0.2,
    b1: float = 0.9,
    b2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    max_norm: float = 1.0,
) -> optax.GradientTransformation:
    """Muon for the matrices of the blocks, AdamW for everything else.

    The update of a matrix `[n m]` is `rms · sqrt(max(n, m)) · orthogonal(momentum)`,
    whose root mean square is about that of AdamW's, so that its learning rates and
    decay serve here too. Each layer, and each expert, is a matrix of its own, stacked
    or not; heads are one side of theirs (`models.layers.matrix_axes`). Embeddings,
    head, norms and biases, and whatever losses own, are left to AdamW.

    Args:
      learning_rate: of both.
      beta: decay of the momentum (Nesterov's) of matrices.
      ns_steps: Newton-Schulz iterations.
      rms: of the update of a matrix, at a learning rate of 1.
      b1: of AdamW.
      b2: of AdamW.
      eps: of both.
      weight_decay: of matrices, embeddings and head; vectors do not decay.
      max_norm: of the gradient, clipped first.

    Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon); scale and
    decay of Liu et al. 2025, Moonlight (arXiv:2502.16982), equation 4.

    Raises:
      UserError: from `init`, no parameter is a matrix of a block.
    """

    # One rate for both, so that the one that is logged is the one that is used.
    def make(learning_rate: Any) -> optax.GradientTransformation:
        orthogonalized = optax.chain(
            scale_by_muon(
                beta=beta,
                ns_steps=ns_steps,
                eps=eps,
                weight_dimension_numbers=_muon_axes,
            ),
            optax.stateless(lambda updates, _: _scaled_by_shape(updates, rms)),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )
        adam = optax.adamw(
            learning_rate,
            b1=b1,
            b2=b2,
            eps=eps,
            weight_decay=weight_decay,
            mask=layers.are_matrices,
        )
        return optax.partition({"muon": orthogonalized, "adam": adam}, _muon_or_adam)

    return in_float32(
        optax.chain(
            optax.clip_by_global_norm(max_norm),
            optax.inject_hyperparams(make)(learning_rate=learning_rate),
        )
    )


class MasterState(NamedTuple):
    """State of `float32_master`.

    Attributes:
      master: the parameters in float32.
      inner: of the optimiser.
    """

    master: Tree
    inner: Tree


def float32_master(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Keep parameters in float32 beside the narrower ones that the model reads.

    The optimiser reads and updates the float32 copy, and the model's parameters are
    that copy, rounded. Without it, an update below half a bit of a bfloat16 parameter
    (1/512 of its size) is lost. The copy takes 4 bytes a parameter of the optimiser's
    state and of checkpoints; parameters that are float32 themselves gain nothing.

    Source: Micikevicius et al. 2018 (arXiv:1710.03740), section 3.1.
    """

    def init(params: Tree) -> MasterState:
        return MasterState(float32(params), optimizer.init(float32(params)))

    def update(
        updates: Tree, state: Any, params: Tree | None = None
    ) -> tuple[Tree, MasterState]:
        updates, inner = optimizer.update(updates, state.inner, state.master)
        master = jax.tree.map(jnp.add, state.master, updates)
        # What is added to the rounded parameters leads to the new copy, not by the
        # update: nothing that rounding took away is lost.
        return (
            jax.tree.map(jnp.subtract, master, float32(params)),
            MasterState(master, inner),
        )

    return in_float32(optax.GradientTransformation(init, update))


def in_float32(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Run an optimiser on float32 gradients and parameters; its updates are float32.

    Its constants and moments are then float32 too. In bfloat16, `b2 = 0.999` is 1, and
    a mean that moves by less than half a bit a step stands still. It also runs where
    JAX forbids mixing dtypes, which optax does. One that reads more than these is
    handed it: a step gives `value`, the objective on its batch.
    """
    standard = jax.numpy_dtype_promotion("standard")
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Tree) -> Tree:
        return optimizer.init(float32(params))

    def update(
        updates: Tree, state: Tree, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, Tree]:
        return inner.update(float32(updates), state, float32(params), **extra)

    return optax.GradientTransformationExtraArgs(standard(init), standard(update))


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """Add float32 updates to parameters, which keep their dtypes."""
    return jax.tree.map(
        lambda x, update: (x.astype(update.dtype) + update).astype(x.dtype),
        params,
        updates,
    )


def float32(tree: Tree) -> Tree:
    """Return the tree with floats below 32 bits as float32."""

    def widen(x: Any) -> Any:
        narrow = jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32
        return x.astype(jnp.float32) if narrow else x

    return jax.tree.map(widen, tree)


def _muon_axes(params: optax.Params) -> optax.Params:
    """Return the sides of the matrices that Muon updates."""
    return jax.tree.map(
        lambda axes: MuonDimensionNumbers(axes.inputs, axes.outputs),
        layers.matrix_axes(params),
        is_leaf=is_axes,
    )


def _muon_or_adam(params: optax.Params) -> optax.Params:
    """Return `"muon"` for the matrices of blocks, `"adam"` for all else.

    Raises:
      UserError: there are parameters, and no matrix of a block among them.
    """
    labels = jax.tree.map(
        lambda axes: "adam" if axes is None else "muon",
        layers.matrix_axes(params),
        is_leaf=is_axes,
    )
    if set(jax.tree.leaves(labels)) == {"adam"}:
        raise UserError(
            "optimizer: muon finds no matrix of a block (blocks/.../query, gate ...) "
            "in this student; use optimizers.adamw"
        )
    return labels


def _scaled_by_shape(updates: optax.Updates, rms: float) -> optax.Updates:
    def scale(update: jax.Array, axes: MuonDimensionNumbers) -> jax.Array:
        side = max(_size(update, axes.reduction_axis), _size(update, axes.output_axis))
        return update * jnp.float32(rms * side**0.5)

    return jax.tree.map(scale, updates, _muon_axes(updates))


def _size(x: jax.Array, axes: Any) -> int:
    size = 1
    for axis in axes:
        size *= x.shape[axis]
    return size


def is_axes(x: Any) -> bool:
    """Return true for what `matrix_axes` has in the place of a parameter."""
    return x is None or isinstance(x, layers.MatrixAxes)
