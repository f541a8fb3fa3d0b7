"""Handwritten digits from scikit-learn."""

import dataclasses
import hashlib
import importlib.util
from typing import Any, Literal

import numpy as np

from runner.data.images.images import Images
from runner.data.labels import Classes
from runner.data.source import DataSource
from runner.errors import UserError, nearest

_SPLITS = ("train", "held_out", "all")


@dataclasses.dataclass(frozen=True)
class Partition:
    """Split into training and held-out rows, by a hash of seed and row number.

    Training and held-out data share one node, so that an override reaches both and no
    row is ever in both.

    Attributes:
      held_out: Share of all rows, above 0 and below 1.
      seed: Of the hash.

    Raises:
      ValueError: The share is 0 or less, or 1 or more.
    """

    held_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.held_out < 1.0:
            raise ValueError(
                f"held_out must be above 0 and below 1, got {self.held_out}"
            )

    def rows(self, split: str, count: int) -> np.ndarray:
        """Return the row numbers of a split of `count` rows, in hashed order."""
        order = np.array(sorted(range(count), key=self._hashed), np.int64)
        held_out = round(self.held_out * count)
        return {"train": order[held_out:], "held_out": order[:held_out]}.get(
            split, order
        )

    def _hashed(self, row: int) -> bytes:
        return hashlib.blake2b(f"{self.seed} {row}".encode(), digest_size=8).digest()


@dataclasses.dataclass(frozen=True)
class Digits(DataSource):
    """1,797 digits of 8 x 8 pixels, float32 in [0, 1]; `scikit-learn`'s `load_digits`.

    The test set of the UCI ML hand-written digits (Alpaydin & Kaynak 1998).

    Attributes:
      split: "train", "held_out" or "all".
      partition: Which rows are held out.

    Raises:
      UserError: There is no such split.
    """

    split: Literal["train", "held_out", "all"] = "train"
    partition: Partition = Partition()

    def __post_init__(self) -> None:
        if self.split not in _SPLITS:
            raise UserError(
                f"split must be one of {', '.join(_SPLITS)}, got {self.split!r}"
                f"{nearest(self.split, _SPLITS)}"
            )

    def check(self) -> None:
        if importlib.util.find_spec("sklearn") is None:
            raise UserError(
                "the digits come with scikit-learn, which is not installed; to install "
                "it: pip install -e '.[vision]'"
            )

    def load(self, *, cache: str = "") -> Images:
        from sklearn.datasets import load_digits  # optional, and slow to import

        del cache
        digits: Any = load_digits()
        rows = self.partition.rows(self.split, len(digits.images))
        return Images(
            images=(digits.images[rows, :, :, None] / 16).astype(np.float32),
            labels=digits.target[rows].astype(np.int32),
            vocabulary=Classes([str(name) for name in digits.target_names]),
            description={"split": self.split},
        )
