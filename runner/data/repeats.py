"""Held-out data that the training data has too."""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Units (documents, images) of held-out data that are in the training data too.

    Attributes:
      count: Number of them.
      total: Number of all held-out units.
      unit: Name of one.
      first: How the first of them is to be known.
    """

    count: int
    total: int
    unit: str
    first: str

    def __str__(self) -> str:
        verb = "is" if self.count == 1 else "are"
        return (
            f"{self.count:,} of {self.total:,} {self.unit}s {verb} in the training "
            f"data too, the first: {self.first}"
        )


def repeated(train: Iterable[np.ndarray], held_out: Iterable[np.ndarray]) -> np.ndarray:
    """Return the places of the held-out arrays that equal a training array.

    Only arrays of a length that is held out too are hashed (blake2b).

    Args:
      train: Arrays of one dtype.
      held_out: Arrays of the same dtype.

    Returns:
      `[repeats]`, in order.
    """
    hashes = [(len(array), _hash(array)) for array in held_out]
    lengths = {length for length, _ in hashes}
    wanted = set(hashes)
    both = {
        key
        for array in train
        if len(array) in lengths and (key := (len(array), _hash(array))) in wanted
    }
    return np.array([i for i, key in enumerate(hashes) if key in both], np.int64)


def _hash(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
