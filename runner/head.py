"""A model's head, as a function of just the parameters it reads."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.base import Model

Tree = Any


class Head:
    """`leaves, variables, hidden -> logits`, where `leaves` are what the head reads.

    Which they are is read off the head's jaxpr, so that a tied embedding is found and
    nothing is declared twice. Only these are gathered for the token blocks, and only
    their gradients are summed over them.
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
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables
        )
        one = jax.ShapeDtypeStruct(hidden.shape[-1:], hidden.dtype)
        jaxpr = jax.make_jaxpr(self._logits)(self._shapes, shapes, one).jaxpr
        read = {id(x) for equation in jaxpr.eqns for x in equation.invars}
        self._read = [id(x) in read for x in jaxpr.invars[: len(leaves)]]

    def leaves(self, params: Tree) -> list[jax.Array]:
        """Those of the model's parameters that the head reads."""
        every = jax.tree.leaves(params)
        return [x for x, read in zip(every, self._read, strict=True) if read]

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
            jnp.add(x, next(given)) if read else x
            for x, read in zip(jax.tree.leaves(params), self._read, strict=True)
        ]
        return jax.tree.unflatten(self._structure, every)

    def _logits(self, leaves: list, variables: Tree, hidden: jax.Array) -> jax.Array:
        params = jax.tree.unflatten(self._structure, leaves)
        return self._make(params, variables).head(hidden)
