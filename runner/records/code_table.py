"""Codes of a shard's entries: which ids are frequent, and how far drops are apart.

The first entry of a packed shard, before its records; made of the first of them. Ids
are ranked by how often these hold them, to a power of two, then by number. The first
`DIRECT` ranks are a symbol each; those after them `PER_SYMBOL` to a symbol, with a low
byte; of the rest, `ESCAPE`, the id itself is stored. Of the gap between two drops the
lowest bits, so many at each rank of the entries, are stored as they are.

    classes   [V] bytes through zstd: 32 less the bits of the count of an id
    shifts    [k-1] bytes through zstd: low bits of the gaps of a rank, never rising
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Self

import numpy as np

from runner.records import rounding
from runner.records.layout import Layout
from runner.records.record import CorruptRecord, entry_ids, stack
from runner.records.symbols.passes import DIRECT, ESCAPE, Planes
from runner.records.symbols.zstd import (
    compressed_once,
    decompressed,
    split,
    with_sizes,
)

SAMPLE = 64  # records that a table is made of
PER_SYMBOL = 256
_SYMBOL_BITS = 4  # of the mean gap of a rank that belong to its symbol
_MOST_SHIFT = 7  # below 8; farther gaps of the first ranks escape


@dataclasses.dataclass(frozen=True, eq=False)
class CodeTable:
    """Ids by frequency, and low bits of gaps.

    Attributes:
      classes: `[V]` uint8, the most frequent ids have the least.
      shifts: `[k-1]` uint8.
    """

    classes: np.ndarray
    shifts: np.ndarray

    @classmethod
    def of(cls, layout: Layout, records: Sequence[bytes]) -> Self:
        """Return the table of some records, or of none."""
        if not records:
            size = layout.vocab_size, layout.entries - 1
            return cls(np.full(size[0], 32, np.uint8), np.zeros(size[1], np.uint8))
        fields = stack(layout, records)
        ids = entry_ids(layout, fields)
        assert ids is not None  # of best entries
        counts = np.bincount(ids.reshape(-1), minlength=layout.vocab_size)
        drops = stored_drops(layout, fields).mean((0, 1), dtype=np.float64)
        mean = np.maximum(np.diff(drops, prepend=0), 1)
        shifts = np.clip(np.ceil(np.log2(mean)) - _SYMBOL_BITS, 0, _MOST_SHIFT)
        falling = np.minimum.accumulate(shifts).astype(np.uint8)
        return cls((32 - np.frexp(counts)[1]).astype(np.uint8), falling)

    def to_bytes(self) -> bytes:
        """Return what a shard begins with."""
        return with_sizes([compressed_once(x) for x in (self.classes, self.shifts)])

    @classmethod
    def from_bytes(cls, layout: Layout, stored: bytes) -> Self:
        """Return the inverse of `to_bytes`.

        Raises:
          CorruptRecord: The bytes are not of a table of `layout`.
        """
        try:
            (classes, shifts), rest = split(stored, 2)
            table = cls(
                decompressed(classes, layout.vocab_size),
                decompressed(shifts, layout.entries - 1),
            )
        except ValueError as error:
            raise CorruptRecord("its table of codes is damaged") from error
        falling = (np.diff(table.shifts.astype(int)) <= 0).all()
        if rest or not falling or table.shifts.max(initial=0) > _MOST_SHIFT:
            raise CorruptRecord("its table of codes is damaged")
        return table

    @functools.cached_property
    def codes(self) -> np.ndarray:
        """`[V]` uint16: symbol, and low byte, of each id."""
        count = len(self.classes)
        rank = np.empty(count, np.int64)
        rank[np.argsort(self.classes, kind="stable")] = np.arange(count)
        beyond = rank - DIRECT
        code = np.where(beyond < 0, rank << 8, (DIRECT << 8) + beyond)
        low = np.arange(count) & 0xFF
        return np.where(code >> 8 < ESCAPE, code, (ESCAPE << 8) + low).astype("<u2")

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """`[2¹⁶]`: the id of each code; of one that escapes, its low byte."""
        ids = np.zeros(1 << 16, np.int32)
        ids[self.codes] = np.arange(len(self.codes))
        ids[ESCAPE << 8 :] = np.arange(256)
        return ids.astype("<u2") if len(self.codes) <= 1 << 16 else ids

    @functools.cached_property
    def ranks(self) -> list[int]:
        """Numbers of ranks that have each low bit, the lowest first."""
        most = int(self.shifts.max(initial=0))
        return [int((self.shifts > bit).sum()) for bit in range(most)]

    def planes(self, length: int) -> Planes:
        """Return the planes of the low bits of records of so many tokens."""
        return Planes(self.ranks, length)

    @functools.cached_property
    def shift(self) -> np.ndarray:
        """`[k-1]` uint16: `shifts`, beside gaps."""
        return self.shifts.astype("<u2")


def stored_drops(layout: Layout, fields: np.ndarray | np.void) -> np.ndarray:
    """`[*b T k-1]` uint16: the drops of records, places of the grid if rounded."""
    if layout.rounded:
        return rounding.places(fields["drops"], layout.format)
    return fields["drops"]
