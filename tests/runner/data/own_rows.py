"""A dataset of a user's own, good but for what a test writes over."""

import dataclasses
from typing import ClassVar

import numpy as np

from runner.data.dataset import Dataset
from runner.data.labels import Classes


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class OwnRows(Dataset):
    """Twelve rows of four tokens of a vocabulary of three."""

    arrays: dict[str, np.ndarray]
    unit: ClassVar[str] = "token"
    num_all: ClassVar[int] = 12
    targets_per_row: ClassVar[int] = 4
    fingerprint: ClassVar[str] = "0" * 32

    def read_rows(self, numbers):
        return {name: x[numbers] for name, x in self.arrays.items()}

    def describe(self):
        return {}


@dataclasses.dataclass(frozen=True)
class Holder:
    """Data that is there already."""

    rows: Dataset

    def check(self):
        pass

    def load(self, *, cache=""):
        return self.rows


def own(**changes):
    """Good rows, but for what is written over in row 7."""
    shape = (12, 4)
    arrays = {
        "tokens": np.ones(shape, np.int32),
        "targets": np.ones(shape, np.int32),
        "mask": np.ones(shape, bool),
        "segment_ids": np.ones(shape, np.int32),
    }
    for name, value in changes.items():
        arrays[name][7, 2] = value
    return OwnRows(vocabulary=Classes(names=("a", "b", "c")), arrays=arrays)
