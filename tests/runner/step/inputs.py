"""A ragged batch of token rows, and how its gradients are compared."""

import functools

import jax
import numpy as np

BATCH, LENGTH, VOCABULARY = 8, 12, 37


def ragged():
    """Two documents a row, rows of very different length, padded."""
    rng = np.random.default_rng(0)
    lengths = np.array([12, 1, 7, 12, 3, 12, 5, 0])
    place = np.arange(LENGTH)
    real = place < lengths[:, None]
    return {
        "tokens": rng.integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32),
        "targets": rng.integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32),
        "mask": real & (rng.random((BATCH, LENGTH)) < 0.8),
        "segment_ids": np.where(real, 1 + (place >= 4), 0).astype(np.int32),
        "positions": np.tile(np.where(place < 4, place, place - 4), (BATCH, 1)).astype(
            np.int32
        ),
        "index": np.arange(BATCH, dtype=np.int32),
    }


def assert_same(results, expected):
    """Equal up to the rounding of float32."""
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6),
        results,
        expected,
    )
