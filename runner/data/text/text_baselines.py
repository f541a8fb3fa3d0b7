"""Unigrams, bigrams and compressors, beside which a language model is read."""

import gzip
import lzma
import math

import numpy as np

from runner.data.baseline import Baseline
from runner.data.text.packed_text import PackedText


def baselines(train: PackedText, held_out: PackedText) -> list[Baseline]:
    """Unigram and bigram counted on `train`; gzip and xz, which see no training text.

    The compressors run over all held-out text as one string, at their best levels.
    """
    unigram = Unigram(train)
    bigram = Bigram(train, unigram)
    inputs, targets = pairs(held_out)
    held_out_bytes = held_out.num_bytes
    rows = []
    for name, nats in {
        "unigram": unigram.nats(targets),
        "bigram": bigram.nats(inputs, targets),
    }.items():
        bits = float(nats.sum()) / math.log(2)
        rows.append(Baseline(name, float(nats.mean()), bits / held_out_bytes))
    text = "".join(held_out.texts()).encode()
    for name, compressed in {
        "gzip": gzip.compress(text, compresslevel=9),
        "xz": lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
    }.items():
        rows.append(Baseline(name, None, 8 * len(compressed) / len(text)))
    return rows


def pairs(dataset: PackedText) -> tuple[np.ndarray, np.ndarray]:
    """(input, target) int64 of every position, as if packed into one row."""
    packing = dataset.packing
    documents = packing.offsets[1:-1]
    targets = np.insert(packing.tokens.astype(np.int64), documents, packing.end)
    ids = np.concatenate([[packing.end], targets, [packing.end]])
    return ids[:-1], ids[1:]


class Unigram:
    """`p(w) = (c(w) + 1) / (N + V)`."""

    def __init__(self, train: PackedText) -> None:
        """Counted over the targets of `train`."""
        _, targets = pairs(train)
        counts = np.bincount(targets, minlength=train.vocabulary.size) + 1
        self.probabilities = counts / counts.sum()

    def nats(self, targets: np.ndarray) -> np.ndarray:
        """`-log p(w)` of each target."""
        return -np.log(self.probabilities[targets])


class Bigram:
    """Absolute discounting, interpolated with the unigram `p(w)`.

    `p(w | v) = max(c(v, w) - D, 0) / c(v) + D · n(v) / c(v) · p(w)`, where `n(v)` is
    the number of distinct successors of `v`; `p(w)` alone after a `v` never seen.
    `D = n₁ / (n₁ + 2 n₂)`, from the numbers of pairs seen once and twice.

    Source: Ney, Essen & Kneser 1994; Chen & Goodman 1999, section 2.7.
    """

    def __init__(self, train: PackedText, unigram: Unigram) -> None:
        """Counted over the positions of `train`."""
        self._unigram, self._size = unigram.probabilities, train.vocabulary.size
        inputs, targets = pairs(train)
        self._seen, self._counts = np.unique(
            inputs * self._size + targets, return_counts=True
        )
        once, twice = np.sum(self._counts == 1), np.sum(self._counts == 2)
        self.discount = float(once / (once + 2 * twice)) if once else 0.0
        self._total = np.bincount(inputs, minlength=self._size)
        self._successors = np.bincount(self._seen // self._size, minlength=self._size)

    def probability(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """`p(target | input)` of each pair."""
        keys = inputs * self._size + targets
        at = np.minimum(np.searchsorted(self._seen, keys), len(self._seen) - 1)
        count = np.where(self._seen[at] == keys, self._counts[at], 0)
        total = np.maximum(self._total[inputs], 1)
        kept = np.maximum(count - self.discount, 0) / total
        left = self.discount * self._successors[inputs] / total
        left = np.where(self._total[inputs] == 0, 1.0, left)
        return kept + left * self._unigram[targets]

    def nats(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """`-log p(target | input)` of each pair."""
        return -np.log(self.probability(inputs, targets))
