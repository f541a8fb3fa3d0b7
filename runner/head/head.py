"""A model's head, as a function of just the parameters it reads."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import sharding
from models.base import Model
from runner.head import flops
from runner.head.vocab_partition import VocabPartition
from runner.machine.mesh import BATCH_AXES
from runner.state.split_module import string_keys

Tree = Any


class Head:
    """`leaves, variables, hidden -> logits`, where `leaves` are what the head reads.

    Which they are is read off the head's jaxpr, so that a tied embedding is found and
    nothing is declared twice. Only these are gathered for the token blocks, and only
    their gradients are summed over them.

    num_outputs: V, entries of the vocabulary.
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
        self._one = jax.ShapeDtypeStruct(hidden.shape[-1:], hidden.dtype)
        given = (self._shapes, self._variables, self._one)
        jaxpr = jax.make_jaxpr(self._logits)(*given).jaxpr
        read = {id(x) for equation in jaxpr.eqns for x in equation.invars}
        self._read = [id(x) in read for x in jaxpr.invars[: len(leaves)]]
        self.num_outputs: int = jaxpr.outvars[0].aval.shape[-1]
        params = jax.tree.unflatten(self._structure, self._shapes)
        model = make(params, self._variables)
        self._vocabulary_axes = self._picked(_vocabulary_axes(model, self.num_outputs))

    @property
    def tileable(self) -> bool:
        """Whether a parameter says which of its axes is the vocabulary."""
        return any(axis >= 0 for axis in self._vocabulary_axes)

    @functools.cached_property
    def is_linear(self) -> bool:
        """Whether its gradient needs no logits (with a soft cap it does)."""
        leaves = [x for x, r in zip(self._shapes, self._read, strict=True) if r]

        def pulled(leaves: list, hidden: jax.Array, d_logits: jax.Array) -> Tree:
            _, pullback = jax.vjp(
                lambda leaves, hidden: self(leaves, self._variables, hidden),
                leaves,
                hidden,
            )
            return pullback(d_logits)

        d_logits = jax.ShapeDtypeStruct((self.num_outputs,), jnp.float32)
        forward = flops.matmul_flops(self, leaves, self._variables, self._one)
        backward = flops.matmul_flops(pulled, leaves, self._one, d_logits)
        return backward <= 2 * forward

    @property
    def shards(self) -> int:
        """Devices that the vocabulary is spread over while blocks are made."""
        context = sharding.current()
        if context is None or not self.tileable:
            return 1
        count = 1
        for axis in sharding.mesh_axes("vocab", self.num_outputs, context):
            count *= 1 if axis in BATCH_AXES else context.mesh.shape[axis]
        return count

    @property
    def reads(self) -> list[bool]:
        """Of the leaves of the model's parameters, which the head reads."""
        return list(self._read)

    def leaves(self, params: Tree) -> list[jax.Array]:
        """Those of the model's parameters that the head reads."""
        return self._picked(jax.tree.leaves(params))

    def tile(
        self, leaves: list[jax.Array], cut: VocabPartition, start: Any, width: int
    ) -> list[jax.Array]:
        """What the head reads for one tile; called on it, it gives the tile's logits.

        A model promises that an output depends on its own entries alone of the axes
        that its parameters call `vocab`.
        """
        return [
            x if axis < 0 else cut.taken(x, axis, start, width)
            for x, axis in zip(leaves, self._vocabulary_axes, strict=True)
        ]

    def tile_added(
        self,
        leaves: list[jax.Array],
        tile: list[jax.Array],
        cut: VocabPartition,
        start: Any,
    ) -> list[jax.Array]:
        """`leaves` with those of a tile added in their places."""
        return [
            x + t.astype(x.dtype) if axis < 0 else cut.added(x, t, axis, start)
            for x, t, axis in zip(leaves, tile, self._vocabulary_axes, strict=True)
        ]

    def __call__(
        self, leaves: list[jax.Array], variables: Tree, hidden: jax.Array
    ) -> jax.Array:
        """Logits `[*b v]`, float32."""
        given = iter(leaves)
        every = [
            next(given) if read else shape
            for shape, read in zip(self._shapes, self._read, strict=True)
        ]
        return self._logits(every, variables, hidden)

    def added(self, params: Tree, leaves: list[jax.Array]) -> Tree:
        """A tree like the model's parameters, with `leaves` added in their places."""
        given = iter(leaves)
        every = [
            jnp.add(x, next(given).astype(x.dtype)) if read else x
            for x, read in zip(jax.tree.leaves(params), self._read, strict=True)
        ]
        return jax.tree.unflatten(self._structure, every)

    def _picked(self, every: list) -> list:
        return [x for x, read in zip(every, self._read, strict=True) if read]

    def _logits(self, leaves: list, variables: Tree, hidden: jax.Array) -> jax.Array:
        params = jax.tree.unflatten(self._structure, leaves)
        return self._make(params, variables).head(hidden)


def _vocabulary_axes(model: Model, size: int) -> list[int]:
    """Of every parameter, in the order of its tree, the axis that is the vocabulary."""

    def axis(variable: nnx.Variable) -> int:
        shape = variable.get_value().shape
        names = variable.get_metadata().get("axes", (None,) * len(shape))
        found = [
            i for i, name in enumerate(names) if name == "vocab" and shape[i] == size
        ]
        return found[0] if found else -1

    axes = jax.tree.map(
        axis,
        nnx.state(model, nnx.Param),
        is_leaf=lambda x: isinstance(x, nnx.Variable),
    )
    return jax.tree.leaves(string_keys(nnx.to_pure_dict(axes)))
