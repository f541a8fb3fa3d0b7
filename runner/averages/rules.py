"""Rules of running averages of the weights."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any

MEAN = "mean"
"""Key of an average in its state."""


class Average(abc.ABC):
    """A running average of the weights after each step."""

    def init(self, params: Tree) -> dict[str, Tree]:
        """Return the state before the first step; `MEAN` is the average."""
        return {MEAN: params}

    @abc.abstractmethod
    def update(
        self, state: Mapping[str, Tree], params: Tree, step: jax.Array
    ) -> dict[str, Tree]:
        """Return the state after a step.

        Args:
          state: before it.
          params: the weights after it, float32.
          step: finished steps, this one included, int32.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class EMA(Average):
    """`θ' ← d θ' + (1 - d) θ` after each step, `d = min(decay, (1 + t) / (10 + t))`.

    Source: Polyak and Juditsky 1992, with the rise of `runner.EMATeacher`, which it
    equals.

    Raises:
      ValueError: decay is outside [0, 1).
    """

    decay: float = 0.999

    def __post_init__(self):
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")

    def update(
        self, state: Mapping[str, Tree], params: Tree, step: jax.Array
    ) -> dict[str, Tree]:
        count = step.astype(jnp.float32)
        decay = jnp.minimum(jnp.float32(self.decay), (1.0 + count) / (10.0 + count))
        mean = jax.tree.map(
            lambda m, x: m + (1.0 - decay) * (x - m), state[MEAN], params
        )
        return {MEAN: mean}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanFrom(Average):
    """The mean of the weights after the steps `first`, `first + every`, ...

    Before `first` it is the weights themselves.

    Source: Izmailov et al. 2018, stochastic weight averaging (arXiv:1803.05407), there
    with a constant or cyclic learning rate.

    Raises:
      ValueError: `first` or `every` is below 1.
    """

    first: int
    every: int = 1

    def __post_init__(self):
        _check_positive(self, "first", "every")

    def update(
        self, state: Mapping[str, Tree], params: Tree, step: jax.Array
    ) -> dict[str, Tree]:
        since = step - self.first
        due = (since < 0) | (since % self.every == 0)
        count = jnp.maximum(since // self.every + 1, 1).astype(jnp.float32)
        share = jnp.where(due, 1.0 / count, 0.0)
        return {
            MEAN: jax.tree.map(lambda m, x: m + share * (x - m), state[MEAN], params)
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanOfLast(Average):
    """The mean of the last `count` snapshots of the weights, one taken `every` steps.

    Until there are so many, it is the mean of those there are. Each snapshot takes the
    memory of the weights in float32.

    Source: Kaddour 2022, LAWA (arXiv:2209.14981).

    Raises:
      ValueError: `count` or `every` is below 1.
    """

    count: int
    every: int

    def __post_init__(self):
        _check_positive(self, "count", "every")

    def init(self, params: Tree) -> dict[str, Tree]:
        return {MEAN: params, "snapshots": (params,) * self.count}

    def update(
        self, state: Mapping[str, Tree], params: Tree, step: jax.Array
    ) -> dict[str, Tree]:
        there = jnp.clip(step // self.every, 1, self.count).astype(jnp.float32)

        def taken(state: dict[str, Tree]) -> dict[str, Tree]:
            snapshots = (params, *state["snapshots"][:-1])

            def mean(*parts: jax.Array) -> jax.Array:
                counted = [
                    jnp.where(i < there, part, 0.0) for i, part in enumerate(parts)
                ]
                return sum(counted[1:], counted[0]) / there

            return {MEAN: jax.tree.map(mean, *snapshots), "snapshots": snapshots}

        due = step % self.every == 0
        return jax.lax.cond(due, taken, dict, dict(state))


def _check_positive(average: Average, *fields: str) -> None:
    for field in fields:
        if getattr(average, field) < 1:
            raise ValueError(
                f"{field} of {type(average).__name__} must be at least 1, got "
                f"{getattr(average, field)}"
            )
