"""The optimiser most configs want; any `optax.GradientTransformation` will do."""

import jax
import optax

from models import layers


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
    is where the log finds it: wrap other optimisers likewise to see theirs.

    Source: Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2; the b2 and decay
    of Brown et al. 2020 (arXiv:2005.14165), appendix B.
    """
    return optax.chain(
        optax.clip_by_global_norm(max_norm),
        optax.inject_hyperparams(optax.adamw, static_args=("mask",))(
            learning_rate=learning_rate,
            b1=b1,
            b2=b2,
            eps=eps,
            weight_decay=weight_decay,
            mask=_matrices,
        ),
    )


def relaxed(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the optimiser for where JAX forbids mixing dtypes: optax mixes them."""
    standard = jax.numpy_dtype_promotion("standard")
    return optax.GradientTransformation(
        standard(optimizer.init), standard(optimizer.update)
    )


def _matrices(params: optax.Params) -> optax.Params:
    """Return true for the matrices of one layer, stacked or not."""
    return jax.tree.map(lambda ndim: ndim > 1, layers.ndim_per_layer(params))
