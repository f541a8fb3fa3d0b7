"""Segments of rows by the ids that they hold: the places that scores are of.

A segment is what one document has of a row. Scores belong to it if their teacher read
its ids, from its first on, whatever came after: a teacher that looks back alone says
the same of them. So nothing depends on the order of a file or the number of a row.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from runner.data.dataset import Dataset

ROWS_AT_A_TIME = 256


class Segment(NamedTuple):
    """Part of a row: positions `start` to `start + length`."""

    row: int
    start: int
    length: int


class Segments:
    """All segments of a dataset, to be looked up by their ids."""

    def __init__(self, dataset: Dataset) -> None:
        self._by_ids: dict[bytes, list[Segment]] = {}
        lengths = set()
        for number, row in numbered_rows(dataset):
            for start, length in spans(row["segment_ids"]):
                ids = row["tokens"][start : start + length]
                segment = Segment(number, start, length)
                self._by_ids.setdefault(_digest(ids), []).append(segment)
                lengths.add(length)
        self._lengths = np.array(sorted(lengths))

    def that_begin(self, tokens: np.ndarray) -> Iterator[Segment]:
        """Yield the segments whose ids are the first of `tokens` `[n]`."""
        hashed, end = _hash(), 0
        for length in self._lengths[self._lengths <= len(tokens)].tolist():
            hashed.update(np.ascontiguousarray(tokens[end:length], "<i4").data)
            end = length
            yield from self._by_ids.get(hashed.digest(), ())


def numbered_rows(dataset: Dataset) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield each row of a dataset with its number."""
    for start in range(0, len(dataset), ROWS_AT_A_TIME):
        numbers = np.arange(start, min(start + ROWS_AT_A_TIME, len(dataset)))
        rows = dataset.rows(numbers)
        for place, number in enumerate(numbers.tolist()):
            yield number, {name: x[place] for name, x in rows.items()}


def spans(segment_ids: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield where each segment of `[n]` begins, and its length; padding (0) is none."""
    begins = np.flatnonzero(np.diff(segment_ids, prepend=segment_ids[:1] - 1))
    ends = np.append(begins[1:], len(segment_ids))
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if segment_ids[begin] > 0:
            yield begin, end - begin


def _digest(ids: np.ndarray) -> bytes:
    hashed = _hash()
    hashed.update(np.ascontiguousarray(ids, "<i4").data)
    return hashed.digest()


def _hash() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=16)
