"""Rows of the data that a teacher must be able to serve."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from runner.data.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class CheckedRows:
    """Rows of the data, each of which was looked at.

    Attributes:
      data: The rows.
      check: Takes rows and their numbers; raises a `UserError` for one that the teacher
        cannot serve.
    """

    data: Dataset
    check: Callable[[Mapping[str, np.ndarray], np.ndarray], None]

    def __len__(self) -> int:
        return len(self.data)

    def order(self, seed: int) -> Any:
        """Return the row at each place of a run, as the data does."""
        return self.data.order(seed)

    def rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows `numbers`, checked."""
        rows = self.data.rows(numbers)
        self.check(rows, numbers)
        return rows
