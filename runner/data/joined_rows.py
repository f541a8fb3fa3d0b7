"""Rows of the data with further arrays, and outputs of other rows at their places."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from runner.data.dataset import Dataset

Tree = Any
Arrays = Mapping[str, np.ndarray]
Join = Callable[[Arrays, np.ndarray], Arrays | None]
"""Takes rows and their numbers; returns further arrays `[b ...]`, if any, or raises a
`UserError` for a row that the teacher cannot serve."""


def joined(
    joins: Sequence[Join], rows: Arrays, numbers: np.ndarray
) -> dict[str, np.ndarray]:
    """Return all that the joins say of some rows, without the rows.

    Args:
      joins: In order; of arrays of one name the last holds.
      rows: Of the data, `[b ...]`.
      numbers: Of the rows, `[b]`.
    """
    arrays: dict[str, np.ndarray] = {}
    for join in joins:
        arrays |= join(rows, numbers) or {}
    return arrays


@dataclasses.dataclass(frozen=True)
class JoinedRows:
    """Rows of the data, each with what functions say of it.

    Attributes:
      data: The rows.
      joins: The functions, in order.
    """

    data: Dataset
    joins: Sequence[Join]

    def __len__(self) -> int:
        return len(self.data)

    def order(self, seed: int) -> Any:
        """Return the row at each place of a run, as the data does."""
        return self.data.order(seed)

    def rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows `numbers` with what was joined.

        Raises:
          UserError: One cannot be taught, as by a record that is not that of its row.
        """
        rows = self.data.rows(numbers)
        return {**rows, **joined(self.joins, rows, numbers)}


def at_places(tree: Tree, places: Int[Array, "b t"]) -> Tree:
    """Return arrays `[b u ...]` at places of their rows, `[b t ...]`."""

    def gather(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(
            x, places.reshape(places.shape + (1,) * (x.ndim - 2)), axis=1
        )

    return jax.tree.map(gather, tree)
