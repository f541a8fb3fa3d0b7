"""Symbols of entries by passes of NumPy over some records at once: `[B T k]`.

split_ids, join_ids      ids and their symbols, low and high bytes (`code_table`)
split_gaps, join_gaps    drops and the symbols, low bits and far ones of their gaps
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

DIRECT, ESCAPE = 128, 255
"""The first symbol of ids with a low byte, and that of what has no symbol."""


@dataclasses.dataclass(frozen=True, eq=False)
class Planes:
    """Places of the low bits of the gaps of a record: bit by bit, each from a byte on.

    Attributes:
      ranks: Number of ranks that have each bit, the lowest bit first.
      length: Tokens of a record.
    """

    ranks: Sequence[int]
    length: int

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """`[planes + 1]`: the first bit of each plane, and the bits of all."""
        sizes = [-(-ranks * self.length // 8) * 8 for ranks in self.ranks]
        return np.cumsum([0, *sizes])

    def of(self, bits: np.ndarray) -> list[np.ndarray]:
        """Return views `[B T ranks]` of `bits` `[B starts[-1]]`, one a plane."""
        return [
            bits[:, start : start + ranks * self.length].reshape(
                len(bits), self.length, ranks
            )
            for start, ranks in zip(self.starts.tolist(), self.ranks, strict=False)
        ]


def split_ids(
    ids: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return symbols uint8 as `ids`, low bytes, and the high bytes of what escapes."""
    code = codes.take(ids)
    symbols = (code >> 8).astype(np.uint8)
    with_low = np.flatnonzero(symbols >= DIRECT)
    escapes = np.flatnonzero(symbols == ESCAPE)
    low = code.astype(np.uint8).reshape(-1).take(with_low)
    return symbols, low, ids.reshape(-1).take(escapes) >> 8


def join_ids(
    symbols: np.ndarray, low: np.ndarray, escaped: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    """Return the ids, in the type of the table `ids`; the inverse of `split_ids`."""
    code, lows = symbols.astype("<u2") << 8, np.zeros(symbols.shape, np.uint8)
    lows.reshape(-1)[np.flatnonzero(symbols >= DIRECT)] = low
    code |= lows
    joined = ids.take(code)
    escapes = np.flatnonzero(symbols == ESCAPE)
    joined.reshape(-1)[escapes] += escaped.astype(ids.dtype) << 8
    return joined


def split_gaps(
    drops: np.ndarray, shift: np.ndarray, planes: Planes
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return symbols uint8 as `drops`, gaps that escape, and low bits `[B bits]`."""
    gaps = np.array(drops, "<u2")
    gaps[..., 1:] -= drops[..., :-1]
    high = gaps >> shift
    far = gaps.reshape(-1).take(np.flatnonzero(high >= ESCAPE))
    lowest, bits = gaps.astype(np.uint8), np.zeros((len(gaps), planes.starts[-1]), "u1")
    for bit, plane in enumerate(planes.of(bits)):
        np.bitwise_and(lowest[..., : plane.shape[-1]], np.uint8(1 << bit), out=plane)
    return np.minimum(high, ESCAPE).astype(np.uint8), far, bits


def join_gaps(
    symbols: np.ndarray,
    far: np.ndarray,
    bits: np.ndarray,
    shift: np.ndarray,
    planes: Planes,
) -> np.ndarray:
    """Return the drops; the inverse of `split_gaps`."""
    gaps = symbols.astype(np.uint32)  # whose sums take a third of those of uint16
    gaps <<= shift
    if planes.ranks:
        lowest, *others = planes.of(bits)
        for bit, plane in enumerate(others, start=1):
            lowest[..., : plane.shape[-1]] |= plane << np.uint8(bit)
        gaps[..., : lowest.shape[-1]] |= lowest.astype(np.uint32)
    gaps.reshape(-1)[np.flatnonzero(symbols == ESCAPE)] = far
    return np.cumsum(gaps, axis=-1, out=gaps).astype("<u2")
