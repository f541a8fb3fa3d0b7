"""Batch norm over ghosts: against float64, one as large as the batch is plain."""

import numpy as np
import pytest

import models
from tests.models.states import random_module

EPS = 1e-5


def normalised(x):
    """All rows and places of a channel at once."""
    centred = x - x.mean((0, 1))
    return centred / np.sqrt(x.var((0, 1)) + EPS)


def test_each_ghost_is_normalised_alone_and_the_running_state_takes_their_mean():
    draw = np.random.default_rng(0)
    x = draw.normal(2.0, 3.0, (8, 5, 4)).astype(np.float32)
    wide = np.asarray(x, np.float64)
    for ghost in (8, 4):  # the whole batch, and its even and odd rows
        norm = random_module(models.BatchNorm, dim=4, ghost=ghost)
        norm.scale[...], norm.offset[...] = np.float32([1, 2, 3, 4]), np.full(4, 0.5)
        ghosts = [slice(j, None, 8 // ghost) for j in range(8 // ghost)]
        expected = np.empty_like(wide)
        for rows in ghosts:
            expected[rows] = normalised(wide[rows]) * [1, 2, 3, 4] + 0.5
        y, observed = norm.over_batch(x)
        np.testing.assert_allclose(y, expected, atol=1e-5)
        means = [[f(wide[rows], (0, 1)) for f in (np.mean, np.var)] for rows in ghosts]
        np.testing.assert_allclose(observed, np.mean(means, 0).ravel(), rtol=1e-5)

    norm.running[...] = np.float32([[1] * 4, [4] * 4])
    expected = (wide - 1) / np.sqrt(4 + EPS) * [1, 2, 3, 4] + 0.5
    np.testing.assert_allclose(norm(x), expected, atol=1e-5)
    with pytest.raises(ValueError, match="3 rows do not divide a microbatch of 8"):
        random_module(models.BatchNorm, dim=4, ghost=3).over_batch(x)
