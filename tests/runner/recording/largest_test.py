"""Largest entries by groups, against those of the whole row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import sharding
from runner.recording import largest


@pytest.mark.parametrize(
    ("entries", "k", "levels"), [(1000, 20, 500), (333, 5, 9), (64, 64, 9)]
)
def test_they_are_those_of_a_sort(monkeypatch, entries, k, levels):
    monkeypatch.setattr(sharding, "platform", lambda: "cuda")
    # Many entries have equals, in their group and in others.
    rows = np.random.default_rng(0).integers(0, levels, (2, 3, entries))
    values, indices = jax.jit(largest.largest, static_argnums=1)(jnp.float32(rows), k)
    expected = np.argsort(-rows, axis=-1, kind="stable")[..., :k]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(rows, expected, -1))
