"""The dataset interface: rows by number, and the vocabulary of their targets."""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import numpy as np

from runner.data.labels import Labels
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Score of a simple predictor on held-out data, to compare a trained model with.

    Attributes:
      name: Of the predictor.
      nats_per_token: Mean loss per target; None where there are no probabilities.
      bits_per_byte: Per byte of UTF-8 text; None where there is no text.
      accuracy: Share of the targets predicted right; None where not measured.
    """

    name: str
    nats_per_token: float | None = None
    bits_per_byte: float | None = None
    accuracy: float | None = None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(abc.ABC):
    """Rows of arrays, each with targets: ids of a `vocabulary`, tokens or classes.

    A row holds `targets` and `mask` (both `[*b]`, without the axis of rows: `[T]` of
    tokens, `[]` of an image) and `segment_ids` alike, 0 at padding; what else, a model
    says by `Model.reads`.

    vocabulary: what targets stand for.
    chosen:     numbers of those of all rows that are rows here; None for all.
    unit:       what has one target: "token", "image".
    """

    vocabulary: Labels
    chosen: np.ndarray | None = None

    unit: ClassVar[str]

    @property
    @abc.abstractmethod
    def num_all(self) -> int:
        """Rows before any are chosen."""

    @property
    @abc.abstractmethod
    def targets_per_row(self) -> int:
        """Targets in a row, padding included."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """32 hexadecimal digits: equal when every row and its meaning is."""

    @abc.abstractmethod
    def numbered(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """The rows `numbers` `[b]` among all, each array `[b ...]`."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """For the work directory: sizes, fingerprint, vocabulary, origin."""

    def baselines(self, held_out: "Dataset") -> list[Baseline]:
        """Scores on `held_out` of simple predictors fitted to these rows."""
        del held_out
        return []

    def __len__(self) -> int:
        """Rows."""
        return self.num_all if self.chosen is None else len(self.chosen)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """One row, without the axis of rows."""
        return {name: x[0] for name, x in self.rows(np.array([row])).items()}

    def rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """The rows `numbers` `[b]`, each array `[b ...]`."""
        return self.numbered(numbers if self.chosen is None else self.chosen[numbers])

    def part(self, num_rows: int) -> Self:
        """`num_rows` of these rows, spread evenly over all of them.

        Raises:
          UserError: there are fewer.
        """
        if num_rows > len(self):
            raise UserError(f"num_rows is {num_rows}, the data has {len(self)} rows")
        chosen = np.arange(num_rows, dtype=np.int64) * len(self) // num_rows
        if self.chosen is not None:
            chosen = self.chosen[chosen]
        return dataclasses.replace(self, chosen=chosen)
