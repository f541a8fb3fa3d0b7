"""Live models by row: every model runs, each row has the outputs of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from losses.core.columns import column as column_of
from models.base import Batch
from runner.data.dataset import Dataset
from runner.data.joined_rows import Arrays, Join
from runner.errors import UserError, nearest
from runner.teachers.base import LoadedTeacher
from runner.teachers.members import LoadedMembers

Tree = Any


class LoadedRoutedModels(LoadedMembers):
    """Models of which each row has one; their distributions alone are offered.

    All of them run over all rows: a batch costs what an ensemble of them does.

    Args:
      column: of the data, one entry a row.
      members: by entry.
    """

    def __init__(self, column: str, members: Mapping[int, LoadedTeacher]):
        super().__init__({str(entry): member for entry, member in members.items()})
        self._column = column
        self.columns |= {column}

    def describe(self) -> Mapping[str, Any]:
        members = {name: dict(x.describe()) for name, x in self.members.items()}
        return {"kind": "routed models", "column": self._column, "teachers": members}

    def covers(self, dataset: Dataset) -> bool:
        return self._column in dataset.columns and super().covers(dataset)

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        require_column(dataset, self._column)
        known = np.array([int(name) for name in self.members])

        def check(rows: Arrays, numbers: np.ndarray) -> None:
            require_known(self._column, rows[self._column], numbers, known)

        return [check, *super().joins(dataset)]

    def of_rows(self, batch: Batch) -> Tree:
        return {"route": column_of(batch, self._column)}

    def combined(self, logits: Mapping[str, jax.Array], of_rows: Tree) -> jax.Array:
        """Return at each token the logits of the member that its row names."""
        chosen, *others = logits.items()
        routed = chosen[1]
        for name, own in others:
            named = (of_rows["route"] == int(name))[..., None]
            routed = jnp.where(named, own, routed)
        return routed


def require_column(dataset: Dataset, column: str) -> None:
    """Refuse data without the column.

    Raises:
      UserError: With the nearest one.
    """
    if column not in dataset.columns:
        raise UserError(
            f"teacher: the data has no column {column!r}"
            f"{nearest(column, dataset.columns)} (data.Columns joins one)"
        )


def require_known(
    column: str, entries: np.ndarray, numbers: np.ndarray, known: np.ndarray
) -> None:
    """Refuse rows that name no teacher.

    Raises:
      UserError: With the row and its entry, or there is not one entry a row.
    """
    if entries.shape != numbers.shape:
        raise UserError(f"column {column!r} must have one entry a row")
    unknown = ~np.isin(entries, known)
    if unknown.any():
        place = int(unknown.argmax())
        raise UserError(
            f"row {numbers[place]}: {column!r} is {entries[place]}, which is no "
            "teacher's"
        )
