"""Rows of packed documents, and a made-up teacher that reads their ids."""

import functools

import numpy as np
from scipy.special import log_softmax

from runner.data.text.packed_text import PackedText, pack
from runner.data.text.tokens import Tokens
from tests.runner.records.sets import VOCABULARY

LENGTH = 16
K = 5


@functools.cache
def dataset(seed: int = 0) -> PackedText:
    """Seven rows of eleven documents, one of them longer than two rows."""
    random = np.random.default_rng(seed)
    sizes = [3, 9, 40, 1, 6, 14, 2, 11, 5, 8, 4]
    documents = [random.integers(1, VOCABULARY.size, n) for n in sizes]
    return pack(
        Tokens(
            ids=np.concatenate(documents).astype(np.uint16),
            offsets=np.cumsum([0, *sizes], dtype=np.int64),
            document_bytes=np.array(sizes),
        ),
        vocabulary=VOCABULARY,
        sequence_length=LENGTH,
        documents=f"{seed}",
        read=lambda: [],
        description={},
    )


def rows() -> dict[str, np.ndarray]:
    data = dataset()
    return data.rows(np.arange(len(data)))


def log_probabilities(tokens, *, temperature: float = 1.0) -> np.ndarray:
    """`[n V]` float32: at i of the token after `tokens[: i + 1]`, mostly the next one.

    A function of the ids up to there alone, as of any model that looks back.
    """
    logits = []
    for i, token in enumerate(tokens):
        random = np.random.default_rng([int(x) for x in tokens[: i + 1]])
        own = random.normal(0, 3, VOCABULARY.size)
        if i + 1 < len(tokens) and random.random() < 0.7:
            own[tokens[i + 1]] += 8
        own[token] -= 8  # seldom says a thing twice
        logits.append(own)
    return log_softmax(np.array(logits) / temperature, -1).astype(np.float32)


def segments() -> list[tuple[int, int, np.ndarray]]:
    """Row, start and ids of each segment, with its last target."""
    data, out = rows(), []
    for number, ids in enumerate(data["segment_ids"]):
        for segment in range(1, ids.max() + 1):
            places = np.flatnonzero(ids == segment)
            tokens = data["tokens"][number, places]
            last = data["targets"][number, places[-1:]]
            out.append((number, places[0], np.concatenate([tokens, last])))
    return out


def expected() -> np.ndarray:
    """`[rows T V]` what the teacher says at each position of the rows; 0 at padding."""
    data = rows()
    whole = np.zeros((*data["tokens"].shape, VOCABULARY.size), np.float32)
    for row, start, ids in segments():
        count = len(ids) - 1
        whole[row, start : start + count] = log_probabilities(ids)[:count]
    return whole
