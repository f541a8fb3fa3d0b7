"""Variables that a train step replaces by what it observed in its batch."""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

RUNNING = "running"
"""Path of what a trunk observes of its batch, `[n]` float32: in the order of the
model's `Running` variables, as many numbers as each has. A trunk that is asked for it
is in training; one that is not reads the running state."""


class Rule(Protocol):
    """The change of a variable by a step; equal rules are equal objects."""

    def __call__(self, before: jax.Array, observed: jax.Array) -> jax.Array:
        """Return the variable after a step, from what the step observed."""
        ...


@dataclasses.dataclass(frozen=True)
class Mean:
    """`before + rate · (observed - before)`."""

    rate: float

    def __call__(self, before: jax.Array, observed: jax.Array) -> jax.Array:
        """Return the moving mean."""
        return before + jnp.float32(self.rate) * (observed - before)


class Running(nnx.Variable):
    """State that is no parameter; after each step it is what its rule makes of it."""

    @classmethod
    def of(cls, value: jax.Array, rule: Rule) -> "Running":
        """Return the variable before the first step, float32."""
        return cls(value, axes=(None,) * value.ndim, rule=rule)
