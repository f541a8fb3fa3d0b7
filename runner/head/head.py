"""A model's head, as a function of just the parameters it reads."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import sharding
from models.base import Model
from runner.checkpoint.tree_paths import by_path
from runner.errors import UserError
from runner.head import flops
from runner.head.vocab_partition import VocabPartition
from runner.machine.mesh import BATCH_AXES
from runner.state.split_module import string_keys
from runner.state.trainable import TrainModules

Tree = Any


class Head:
    """`leaves, hidden, variables -> logits`, where `leaves` are what the head reads.

    They are read off the head's jaxpr, so that a tied embedding is among them and
    nothing is declared twice. Only these are gathered for the token blocks, and only
    their gradients are summed over them.

    Attributes:
      num_outputs: V, entries of the vocabulary.
      reads: of the leaves of the model's parameters, which the head reads.
    """

    def __init__(
        self,
        make: Callable[[Tree, Tree], Model],
        params: Tree,
        variables: Tree,
        hidden: Any,
    ):
        self._make = make
        leaves, self._structure = jax.tree.flatten(params)
        self._shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
        self._variables = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables
        )
        self._one_hidden = jax.ShapeDtypeStruct(hidden.shape[-1:], hidden.dtype)
        shapes = (self._shapes, self._variables, self._one_hidden)

        def logits(leaves: list, variables: Tree, hidden: jax.Array) -> jax.Array:
            params = jax.tree.unflatten(self._structure, leaves)
            return make(params, variables).head(hidden)

        # Of one position, so that nothing here depends on the batch.
        jaxpr = self._jaxpr = jax.make_jaxpr(logits)(*shapes).jaxpr
        operands = {id(x) for equation in jaxpr.eqns for x in equation.invars}
        self.reads = [id(x) in operands for x in jaxpr.invars[: len(leaves)]]
        of_variables = jaxpr.invars[len(leaves) : -1]
        self._reads_variables = [id(x) in operands for x in of_variables]
        params = jax.tree.unflatten(self._structure, self._shapes)
        model = make(params, self._variables)
        _check_logits(model, [x.aval for x in jaxpr.outvars])
        self.num_outputs: int = jaxpr.outvars[0].aval.shape[-1]
        # The axes that the model names `vocab`, of what the head reads.
        vocab_axes = _vocab_axes(model, self.num_outputs)
        self._vocab_axes = self._select([vocab_axes[p] for p in by_path(params)])

    @classmethod
    def of(cls, modules: TrainModules) -> "Head":
        """Return the head of a student, before there are arrays.

        Raises:
          UserError: the model does not say how wide its hidden states are.
        """
        params, variables = modules.abstract_arrays()
        student = modules.abstract_student()
        if not hasattr(student, "dim"):
            raise UserError(
                f"student: {type(student).__name__} must set `dim`, the width of the "
                "hidden states that its head reads, beside `num_outputs`"
            )
        hidden = jax.ShapeDtypeStruct((student.dim,), jnp.float32)
        return cls(modules.student, params, variables, hidden)

    @functools.cached_property
    def tileable(self) -> bool:
        """True if a parameter says which of its axes is the vocabulary."""
        return any(axis >= 0 for axis in self._vocab_axes)

    @functools.cached_property
    def is_linear(self) -> bool:
        """True if its gradient needs no logits (with a soft cap it does)."""
        leaves = self._select(self._shapes)

        def backward(
            leaves: list, variables: Tree, hidden: jax.Array, d_logits: jax.Array
        ) -> Tree:
            call = functools.partial(self, variables=variables)
            return jax.vjp(call, leaves, hidden)[1](d_logits)

        d_logits = jax.ShapeDtypeStruct((self.num_outputs,), jnp.float32)
        forward_flops = flops.of_jaxpr(self._jaxpr)
        backward_flops = flops.matmul_flops(
            backward, leaves, self._variables, self._one_hidden, d_logits
        )
        return backward_flops <= 2 * forward_flops

    def variables(self, variables: Tree) -> Tree:
        """Return the model's variables with a scalar for each that the head reads not.

        Only what it reads is gathered for the token blocks: frozen parameters of the
        trunk are variables too.
        """
        leaves, structure = jax.tree.flatten(variables)
        read = zip(leaves, self._reads_variables, strict=True)
        return jax.tree.unflatten(
            structure, [x if used else jnp.zeros((), x.dtype) for x, used in read]
        )

    def vocab_shards(self) -> int:
        """Return the devices that the vocabulary is spread over, under `sharding.use`.

        Those of the batch's axes do not count: blocks are computed on each of them.
        """
        context = sharding.current()
        if context is None or not self.tileable:
            return 1
        count = 1
        for axis in sharding.mesh_axes("vocab", self.num_outputs, context):
            count *= 1 if axis in BATCH_AXES else context.mesh.shape[axis]
        return count

    def leaves(self, params: Tree) -> list[jax.Array]:
        """Return those of the model's parameters that the head reads."""
        return self._select(jax.tree.leaves(params))

    def tile(
        self,
        leaves: list[jax.Array],
        partition: VocabPartition,
        start: Any,
        width: int,
    ) -> list[jax.Array]:
        """Return the leaves of one tile; called on them, the head gives its logits.

        A model promises that an output depends on its own entries alone of the axes
        that its parameters call `vocab`.
        """
        return [
            x if axis < 0 else partition.slice(x, axis, start, width)
            for x, axis in zip(leaves, self._vocab_axes, strict=True)
        ]

    def add_tile(
        self,
        leaves: list[jax.Array],
        tile: list[jax.Array],
        partition: VocabPartition,
        start: Any,
    ) -> list[jax.Array]:
        """Return `leaves` with those of a tile added in their places."""
        return [
            x + t.astype(x.dtype) if axis < 0 else partition.add(x, t, axis, start)
            for x, t, axis in zip(leaves, tile, self._vocab_axes, strict=True)
        ]

    def __call__(
        self, leaves: list[jax.Array], hidden: jax.Array, *, variables: Tree
    ) -> jax.Array:
        """Return logits `[*b v]` of `hidden` `[*b d]`."""
        rest = iter(leaves)
        all_leaves = [
            next(rest) if read else shape
            for shape, read in zip(self._shapes, self.reads, strict=True)
        ]
        params = jax.tree.unflatten(self._structure, all_leaves)
        return self._make(params, variables).head(hidden)

    def add_leaves(self, params: Tree, leaves: list[jax.Array]) -> Tree:
        """Return the model's parameters with `leaves` added in their places."""
        rest = iter(leaves)
        all_leaves = [
            jnp.add(x, next(rest).astype(x.dtype)) if read else x
            for x, read in zip(jax.tree.leaves(params), self.reads, strict=True)
        ]
        return jax.tree.unflatten(self._structure, all_leaves)

    def _select(self, leaves: list) -> list:
        return [x for x, read in zip(leaves, self.reads, strict=True) if read]


def _check_logits(model: Model, outputs: list[Any]) -> None:
    """Refuse a head that does not map `[d]` to float32 logits `[v]`.

    Raises:
      UserError: it does not.
    """
    actual = ", ".join(f"{x.dtype} {list(x.shape)}" for x in outputs)
    if len(outputs) != 1 or outputs[0].ndim != 1 or outputs[0].dtype != jnp.float32:
        raise UserError(
            f"{type(model).__name__}.head must return float32 logits [vocabulary] of "
            f"one hidden state [width]; got {actual}"
        )


def _vocab_axes(model: Model, size: int) -> dict[str, int]:
    """Return the vocabulary axis of every parameter by path, -1 for none."""

    def axis(variable: nnx.Variable) -> int:
        shape = variable.get_value().shape
        names = variable.get_metadata().get("axes", (None,) * len(shape))
        matches = [
            i for i, name in enumerate(names) if name == "vocab" and shape[i] == size
        ]
        return matches[0] if matches else -1

    axes = jax.tree.map(
        axis,
        nnx.state(model, nnx.Param),
        is_leaf=lambda x: isinstance(x, nnx.Variable),
    )
    return by_path(string_keys(nnx.to_pure_dict(axes)))
