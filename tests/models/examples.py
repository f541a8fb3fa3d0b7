"""Small models and batches that the tests of this folder share."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import Transformer

VOCAB = 13


def transformer(**fields) -> Transformer:
    defaults = {"dim": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}
    return Transformer(vocab_size=VOCAB, **(defaults | fields), rngs=nnx.Rngs(0))


def batch(segments: list[list[int]], *, seed: int = 0) -> dict[str, jnp.ndarray]:
    """Random tokens in rows packed with documents of the given lengths.

    What a row leaves over of the longest row is padding: segment 0, mask false.
    """
    length = max(sum(row) for row in segments)
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, VOCAB, (len(segments), length), np.int32)
    targets = draw.integers(1, VOCAB, (len(segments), length), np.int32)
    ids = np.zeros((len(segments), length), np.int32)
    positions = np.zeros((len(segments), length), np.int32)
    for row, lengths in enumerate(segments):
        start = 0
        for segment, size in enumerate(lengths):
            ids[row, start : start + size] = segment + 1
            positions[row, start : start + size] = np.arange(size)
            start += size
        positions[row, start:] = np.arange(length - start)
    arrays = {
        "tokens": np.where(ids > 0, tokens, 0),
        "targets": np.where(ids > 0, targets, 0),
        "mask": ids > 0,
        "segment_ids": ids,
        "positions": positions,
        "index": np.arange(len(segments), dtype=np.int32),
    }
    return {name: jnp.asarray(value) for name, value in arrays.items()}
