"""Best entries by groups, against sorting whole rows in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runner.recording import groups
from runner.recording.modes import TopK

K, VOCABULARY, TOKENS = 2, 3 * 2 * groups.GROUP + 37, 8
TEMPERATURES = (0.5, 1.0, 8.0)


@functools.cache
def rows():
    """Return logits `[kinds TOKENS VOCABULARY]` float32."""
    random = np.random.default_rng(0)
    plain = random.normal(size=(TOKENS, VOCABULARY))
    sure, impossible, behind = 1.0 * plain, 2.0 * plain, 0.0 * plain
    sure[:, 300:302] += 90.0
    impossible[:, 5:] = -np.inf
    behind[:, -3:] = 1.0  # in the last group, which is not whole
    equal = np.zeros_like(plain)
    kinds = [3 * plain, 30 * plain, np.round(plain), equal, sure, impossible]
    return np.stack([*kinds, behind, plain + 3000.0]).astype(np.float32)


@functools.cache
def stored():
    assert groups.serves(VOCABULARY, K)
    select = jax.jit(lambda x: TopK(K).select(x, jnp.zeros(()), TEMPERATURES))
    return {name: np.asarray(x) for name, x in select(rows()).items()}


def test_entries_are_those_of_sorted_rows_the_lower_of_equal_ones_first():
    below = rows() - rows().max(-1, keepdims=True)
    ids = np.argsort(-below, axis=-1, kind="stable")[..., :K]
    np.testing.assert_array_equal(stored()["indices"], ids)
    best = np.take_along_axis(below, ids, axis=-1)
    np.testing.assert_array_equal(stored()["logits"], best)


@pytest.mark.parametrize("name", ["log_normalizers", "log_rests"])
def test_normalisers_are_those_of_float64(name):
    below = np.float64(rows() - rows().max(-1, keepdims=True))
    if name == "log_rests":
        np.put_along_axis(below, np.int64(stored()["indices"]), -np.inf, axis=-1)
    scaled = [below / t for t in TEMPERATURES]
    sums = [np.logaddexp.reduce(x, axis=-1) for x in scaled]
    np.testing.assert_allclose(
        stored()[name], np.stack(sums, axis=-1), rtol=1e-6, atol=2e-6
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_shows(wrong):
    logits = rows()[0, :1].copy()
    logits[0, 400] = wrong
    select = jax.jit(lambda x: TopK(K).select(x, jnp.zeros(()), TEMPERATURES))
    assert np.isnan(np.asarray(select(logits)["log_normalizers"])).all()
