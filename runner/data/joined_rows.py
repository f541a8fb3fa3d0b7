"""Rows of the data with further arrays, and outputs of other rows at their places."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from runner.data.dataset import Dataset

Tree = Any


@dataclasses.dataclass(frozen=True)
class JoinedRows:
    """Rows of the data, each with what a function says of it.

    Attributes:
      data: The rows.
      join: Takes rows and their numbers; returns further arrays `[b ...]`, if any, or
        raises a `UserError` for a row that the teacher cannot serve.
    """

    data: Dataset
    join: Callable[
        [Mapping[str, np.ndarray], np.ndarray], Mapping[str, np.ndarray] | None
    ]

    def __len__(self) -> int:
        return len(self.data)

    def order(self, seed: int) -> Any:
        """Return the row at each place of a run, as the data does."""
        return self.data.order(seed)

    def rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows `numbers` with what was joined."""
        rows = self.data.rows(numbers)
        return {**rows, **(self.join(rows, numbers) or {})}


def at_places(tree: Tree, places: Int[Array, "b t"]) -> Tree:
    """Return arrays `[b u ...]` at places of their rows, `[b t ...]`."""

    def gather(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(
            x, places.reshape(places.shape + (1,) * (x.ndim - 2)), axis=1
        )

    return jax.tree.map(gather, tree)
