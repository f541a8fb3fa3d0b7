"""Stand-in data for dry runs: shapes without text."""

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
    """Shapes of rows of `sequence_length` tokens out of `vocab_size`, without text.

    For `--dry_run` of models whose tokenizer or text is not available. A run is
    refused.

    Attributes:
      vocab_size: Number of ids.
      sequence_length: Positions in a row.

    Raises:
      UserError: A number is below 1.
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
        """Accept: a dry run needs nothing but the shapes."""

    def load(self, *, cache: str = "") -> "PlannedRows":
        del cache
        return PlannedRows(
            vocabulary=PlannedIds(self.vocab_size), sequence_length=self.sequence_length
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PlannedRows(Dataset):
    """One row of padding.

    Attributes:
      sequence_length: Positions in the row.
    """

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
        content = f"retort planned {self.vocabulary.digest} {self.sequence_length}"
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows of padding, in the shapes of `PackedText`."""
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
    """Ids without a meaning.

    Attributes:
      count: Number of ids.
    """

    count: int

    @property
    def size(self) -> int:
        return self.count

    @property
    def digest(self) -> str:
        content = f"retort planned ids {self.count}"
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    @property
    def token_bytes(self) -> np.ndarray:
        return np.zeros(self.count, np.int32)

    @property
    def summary(self) -> str:
        return f"a planned tokenizer of {self.count} tokens"

    @property
    def student_field(self) -> str:
        return f"vocab_size={self.count}"
