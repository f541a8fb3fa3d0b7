"""Unigram, bigram and compressor baselines of language models."""

import dataclasses
import gzip
import lzma
import math
from collections.abc import Iterable

import numpy as np

from runner.data.dataset import Baseline
from runner.data.text.packing import Packing

_MOST_POSITIONS = 1 << 24


def baselines(
    train: Packing,
    held_out: Packing,
    *,
    vocab_size: int,
    texts: Iterable[str],
    num_bytes: int,
) -> list[Baseline]:
    """Return the scores on `held_out` of unigram, bigram, gzip and xz.

    Unigram and bigram are counted on `train`, of which the first 16.8 million positions
    are enough; the compressors use no training text.
    They run over all held-out text as one string, at their best levels.

    Args:
      train: Training documents.
      held_out: Documents to predict.
      vocab_size: Number of ids.
      texts: The held-out documents as text.
      num_bytes: UTF-8 bytes that the held-out ids stand for.
    """
    train = _first(train, _MOST_POSITIONS)
    unigram = Unigram(train, vocab_size=vocab_size)
    bigram = Bigram(train, unigram)
    inputs, targets = pairs(held_out)
    rows = []
    for name, nats in {
        "unigram": unigram.nats(targets),
        "bigram": bigram.nats(inputs, targets),
    }.items():
        bits = float(nats.sum()) / math.log(2)
        rows.append(Baseline(name, float(nats.mean()), bits / num_bytes))
    text = "".join(texts).encode()
    for name, compressed in {
        "gzip": gzip.compress(text, compresslevel=9),
        "xz": lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
    }.items():
        rows.append(Baseline(name, None, 8 * len(compressed) / len(text)))
    return rows


def _first(packing: Packing, positions: int) -> Packing:
    """Return the first documents of a packing, of so many positions at most.

    Counting takes some 100 bytes a position.
    """
    last = np.searchsorted(packing.offsets, positions, side="right")
    if last >= len(packing.offsets):
        return packing
    offsets = packing.offsets[: max(int(last), 2)]
    return dataclasses.replace(
        packing, offsets=offsets, tokens=packing.tokens[: offsets[-1]]
    )


def pairs(packing: Packing) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets, int64, of all positions as one row."""
    ids = packing.tokens.astype(np.int64)
    inputs = np.insert(ids, packing.offsets[:-1], packing.begin)
    targets = np.insert(ids, packing.offsets[1:], packing.end)
    return inputs, targets


class Unigram:
    """`p(w) = (c(w) + 1) / (N + V)`."""

    def __init__(self, train: Packing, *, vocab_size: int) -> None:
        """Count the targets of `train`."""
        _, targets = pairs(train)
        counts = np.bincount(targets, minlength=vocab_size) + 1
        self.probabilities = counts / counts.sum()

    def nats(self, targets: np.ndarray) -> np.ndarray:
        """Return `-log p(w)` of each target."""
        return -np.log(self.probabilities[targets])


class Bigram:
    """Absolute discounting, interpolated with the unigram `p(w)`.

    `p(w | v) = max(c(v, w) - D, 0) / c(v) + D · n(v) / c(v) · p(w)`, where `n(v)` is
    the number of distinct successors of `v`; `p(w)` alone after a `v` without any.
    `D = n₁ / (n₁ + 2 n₂)`, from the numbers of pairs that occur once and twice.

    Source: Ney, Essen & Kneser 1994; Chen & Goodman 1999, section 2.7.
    """

    def __init__(self, train: Packing, unigram: Unigram) -> None:
        """Count the pairs of consecutive ids in `train`."""
        self._unigram = unigram.probabilities
        self._size = len(self._unigram)
        inputs, targets = pairs(train)
        # A pair (v, w) is the one number v · V + w, so that it can be looked up sorted.
        self._pairs, self._counts = np.unique(
            inputs * self._size + targets, return_counts=True
        )
        once, twice = np.sum(self._counts == 1), np.sum(self._counts == 2)
        self.discount = float(once / (once + 2 * twice)) if once else 0.0
        self._total = np.bincount(inputs, minlength=self._size)
        self._successors = np.bincount(self._pairs // self._size, minlength=self._size)

    def probability(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return `p(target | input)` of each pair."""
        keys = inputs * self._size + targets
        at = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        count = np.where(self._pairs[at] == keys, self._counts[at], 0)
        total = np.maximum(self._total[inputs], 1)
        discounted = np.maximum(count - self.discount, 0) / total
        backoff = self.discount * self._successors[inputs] / total
        backoff = np.where(self._total[inputs] == 0, 1.0, backoff)
        return discounted + backoff * self._unigram[targets]

    def nats(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return `-log p(target | input)` of each pair."""
        return -np.log(self.probability(inputs, targets))
