"""Data that is yet to be had: shapes for a dry run."""

import dataclasses
import hashlib
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Dataset
from runner.data.labels import Labels
from runner.data.source import DataSource, require_length
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class PlannedTokens(DataSource):
    """Rows of `sequence_length` of `vocab_size` tokens, of which none is known.

    For lay-outs of models whose tokenizer or text is not at hand: `--dry_run` reads
    shapes alone. A run is refused.
    """

    vocab_size: int
    sequence_length: int

    def __post_init__(self) -> None:
        require_length(self.sequence_length)
        if self.vocab_size < 1:
            raise UserError(f"vocab_size must be at least 1, got {self.vocab_size}")

    def check(self) -> None:
        raise UserError(
            "PlannedTokens holds no text: it serves --dry_run; for a run give data "
            "such as data.TokenizedText"
        )

    def check_shapes(self) -> None:
        """Its shapes are all it has."""

    def load(self, *, cache: str = "") -> "PlannedRows":
        del cache
        return PlannedRows(
            vocabulary=PlannedIds(self.vocab_size), sequence_length=self.sequence_length
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PlannedRows(Dataset):
    """One row of padding."""

    sequence_length: int

    unit: ClassVar[str] = "token"

    @property
    def num_all(self) -> int:
        return 1

    @property
    def targets_per_row(self) -> int:
        return self.sequence_length

    @property
    def fingerprint(self) -> str:
        said = f"retort planned {self.vocabulary.digest} {self.sequence_length}"
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    def numbered(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Shaped as those of `PackedText`."""
        shape = (len(numbers), self.sequence_length)
        names = ("tokens", "targets", "segment_ids", "positions")
        integers = {name: np.zeros(shape, np.int32) for name in names}
        return {**integers, "mask": np.zeros(shape, bool)}

    def describe(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "rows": 1,
            "sequence_length": self.sequence_length,
            "vocabulary": self.vocabulary.describe(),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class PlannedIds(Labels):
    """Ids that stand for nothing yet."""

    count: int

    @property
    def size(self) -> int:
        return self.count

    @property
    def digest(self) -> str:
        said = f"retort planned ids {self.count}"
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    @property
    def token_bytes(self) -> np.ndarray:
        return np.zeros(self.count, np.int32)

    @property
    def summary(self) -> str:
        return f"a planned tokenizer of {self.count} tokens"

    @property
    def student_field(self) -> str:
        return f"vocab_size={self.count}"
