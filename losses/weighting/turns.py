"""Terms that take turns."""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """`weight` in the steps of one turn of `of`, 0 in the others.

    The weight of a term: turns are `steps` long and follow each other, `turn` 0 first.
    A term out of its turn is computed all the same.

    Attributes:
      steps: of a turn.
      turn: from 0.
      of: how many there are.
      weight: in its turn.

    Raises:
      ValueError: a number is out of its range.
    """

    steps: int
    turn: int
    of: int = 2
    weight: float = 1.0

    def __post_init__(self):
        if self.steps < 1 or not 0 <= self.turn < self.of:
            raise ValueError(
                "steps must be at least 1 and turn one of 0 to of - 1, got "
                f"steps={self.steps}, turn={self.turn}, of={self.of}"
            )
        if not math.isfinite(self.weight):
            raise ValueError(f"weight must be finite, got {self.weight}")

    def __call__(self, step: Int[Array, ""] | int) -> Float[Array, ""]:
        """Return the weight at a step."""
        now = jnp.asarray(step) // self.steps % self.of
        return jnp.where(now == self.turn, jnp.float32(self.weight), 0.0)
