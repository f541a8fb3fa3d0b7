"""Ids of a record as symbols: those that stand in it often have symbols of their own.

The ids that a record holds twice and more are listed, by class: how often they stand
there, to a power of two. The symbol of one is its class and the three highest bits of
its place in the class; the rest of its place are low bits. All other ids are plain
numbers (`bit_fields`).
"""

import dataclasses
import functools

import numpy as np

from runner.records.symbols import bit_fields

CLASSES = 21
_HEAD = 3  # bits of a place that belong to the symbol


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
    """Classes of the ids of a list, the most frequent first.

    Attributes:
      sizes: `[CLASSES]`, number of ids in each.
      count: Number of ids in all.

    Raises:
      ValueError: The two disagree.
    """

    sizes: np.ndarray
    count: int

    def __post_init__(self) -> None:
        if self.sizes.astype(np.int64).sum() != self.count:
            raise ValueError("classes do not have as many ids as are listed")

    @functools.cached_property
    def filled(self) -> np.ndarray:
        """Sizes of the classes that have ids."""
        return self.sizes[self.sizes > 0].astype(np.int64)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Place in the list at which each filled class begins."""
        return np.cumsum(self.filled) - self.filled

    @functools.cached_property
    def symbols(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Symbol uint8, width uint8 and low bits uint32 of each place of the list."""
        place = np.arange(self.count) - np.repeat(self.starts, self.filled)
        bits = np.frexp(self.filled - 1)[1]
        width = np.repeat(np.maximum(bits - _HEAD, 0), self.filled)
        first = np.arange(len(self.filled)) * (1 << _HEAD) + bit_fields.SYMBOLS
        symbol = np.repeat(first, self.filled) + (place >> width)
        low = place & ((1 << width) - 1)
        return symbol.astype(np.uint8), width.astype(np.uint8), low.astype(np.uint32)

    @functools.cached_property
    def widths(self) -> np.ndarray:
        """`[256]`: low bits that belong to each symbol."""
        plain = np.arange(bit_fields.SYMBOLS, dtype=np.uint8)
        result = np.zeros(256, np.uint8)
        result[: bit_fields.SYMBOLS] = bit_fields.widths(plain)
        symbols, widths, _ = self.symbols
        result[symbols] = widths
        return result

    def steps(self, listed: np.ndarray) -> np.ndarray:
        """Return ids `[count]` less the one before and 1, each class from 0."""
        before = np.concatenate([listed[:1], listed[:-1] + 1])
        before[self.starts] = 0
        return listed - before

    def listed(self, steps: np.ndarray) -> np.ndarray:
        """Return the ids int64; the inverse of `steps`."""
        ends = np.cumsum(steps.astype(np.int64) + 1)
        before = np.concatenate([ends[:1] * 0, ends[:-1]])[self.starts]
        return ends - 1 - np.repeat(before, self.filled)

    def ids(
        self, symbols: np.ndarray, low: np.ndarray, listed: np.ndarray
    ) -> np.ndarray:
        """Return the ids int64 of symbols and low bits."""
        values = np.flatnonzero(np.diff(self.symbols[0], prepend=0))
        first = np.zeros(256, np.int64)
        first[self.symbols[0][values]] = values
        own = symbols >= bit_fields.SYMBOLS
        plain = ~own
        result = np.empty(len(symbols), np.int64)
        result[own] = listed[first[symbols[own]] + low[own]]
        result[plain] = bit_fields.join(symbols[plain], low[plain])
        return result


def list_ids(ids: np.ndarray, vocab_size: int) -> tuple[np.ndarray, Classes]:
    """Return those that stand more than once among `ids`, class by class."""
    counts = np.bincount(ids.reshape(-1), minlength=vocab_size)
    often = np.flatnonzero(counts > 1)
    classes = np.maximum(CLASSES - np.frexp(counts[often])[1], 0)
    listed = often[np.argsort(classes, kind="stable")]
    return listed, Classes(np.bincount(classes, minlength=CLASSES), len(listed))


def alphabet(
    listed: np.ndarray, classes: Classes, vocab_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return symbol, width and low bits of every id of a vocabulary, `[V]` each."""
    symbols, widths, low = (x.copy() for x in _plain(vocab_size))
    symbols[listed], widths[listed], low[listed] = classes.symbols
    return symbols, widths, low


@functools.lru_cache(maxsize=4)
def _plain(vocab_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return bit_fields.split(np.arange(vocab_size))
