"""The tokens that stay, and draws from them."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from models.decoding import draws
from models.decoding.draws import Draws

SIZE = 7
# Logits that are far enough apart for float32 and float64 to sort them alike.
ROWS = st.lists(st.integers(-20, 20).map(lambda x: x / 4), min_size=SIZE, max_size=SIZE)


DRAW = jax.jit(draws.draw)
STAY = jax.jit(draws.kept_logits, static_argnames="top_k")


def reference(logits, temperature, top_k, top_p):
    """Which tokens stay, one row, float64, as the papers say it: a token at a time."""
    scores = np.asarray(logits, np.float64) / temperature
    stays = np.ones(SIZE, bool)
    if top_k is not None:
        stays &= scores >= np.sort(scores)[-min(top_k, SIZE)]
    if top_p is not None:
        probabilities = np.where(stays, np.exp(scores - scores.max()), 0.0)
        probabilities /= probabilities.sum()
        order = sorted(range(SIZE), key=lambda i: -probabilities[i])
        total, fewest = 0.0, []
        for i in order:
            if fewest and total >= top_p - 1e-9:
                break
            fewest.append(i)
            total += probabilities[i]
        stays &= np.isin(np.arange(SIZE), fewest)
    return stays


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    rows=st.lists(ROWS, min_size=2, max_size=2),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.sampled_from([None, 1, 3, 9]),
    # No sum of probabilities of such logits is that near to one of these.
    top_p=st.sampled_from([None, 0.3137, 0.8313, 0.99991]),
)
def test_the_tokens_that_stay_are_those_of_the_definition(
    rows, temperature, top_k, top_p
):
    scores = STAY(
        jnp.asarray(rows, jnp.float32),
        temperature=jnp.float32(temperature),
        top_k=top_k,
        top_p=None if top_p is None else jnp.float32(top_p),
    )
    for row, logits in zip(np.asarray(scores), rows, strict=True):
        stays = reference(logits, temperature, top_k, top_p)
        if top_p is not None and len(set(logits)) < SIZE:  # which of equals, is free
            assert np.isfinite(row).sum() == stays.sum()
        else:
            np.testing.assert_array_equal(np.isfinite(row), stays)
        best = np.array(logits) - max(logits)
        np.testing.assert_allclose(
            row[np.isfinite(row)], best[np.isfinite(row)] / temperature
        )


# transformers 5.24.0: TemperatureLogitsWarper(0.7), TopKLogitsWarper(4),
# TopPLogitsWarper(0.8) on the logits 0.0, 1.5, -2.0, 1.0, 0.9, 1.2, -0.5.
def test_the_tokens_that_stay_are_those_of_transformers():
    logits = jnp.asarray([[0.0, 1.5, -2.0, 1.0, 0.9, 1.2, -0.5]])
    scores = STAY(logits, temperature=jnp.float32(0.7), top_k=4, top_p=jnp.float32(0.8))
    expected = np.full((1, SIZE), -np.inf)
    expected[0, [1, 3, 5]] = 2.142857074737549, 1.4285714626312256, 1.7142858505249023
    expected -= 2.142857074737549  # softmax does not see it
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-6)


def test_the_first_token_stays_however_small_the_share():
    scores = STAY(
        jnp.asarray([[0.0, 3.0]]),
        temperature=jnp.float32(1.0),
        top_k=None,
        top_p=jnp.float32(1e-9),
    )
    np.testing.assert_array_equal(scores, [[-np.inf, 0.0]])


def test_draws_of_a_row_with_a_key_of_its_own_do_not_depend_on_the_others():
    logits = jax.random.normal(jax.random.key(1), (3, SIZE))
    keys = jax.random.split(jax.random.key(2), 3)
    steps = jnp.asarray([4, 0, 7])
    together = DRAW(logits, keys, steps)
    apart = [
        DRAW(logits[i : i + 1], keys[i : i + 1], steps[i : i + 1])[0] for i in range(3)
    ]
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 0}, "top_k must be positive, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0, at most 1, got 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0, at most 1, got 1.5"),
        ({"temperature": -0.5}, "temperature must not be negative, got -0.5"),
    ],
)
def test_a_number_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Draws(**fields)


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-6])
@pytest.mark.parametrize("top_p", [None, 0.9])
def test_no_temperature_is_too_small_to_draw_from(temperature, top_p):
    scores = STAY(
        jnp.asarray([[-40.0, 3.0, 100.0, 100.0, 99.9]]),
        temperature=jnp.float32(temperature),
        top_k=None,
        top_p=top_p and jnp.float32(top_p),
    )
    np.testing.assert_allclose(jax.nn.softmax(scores), [[0.0, 0.0, 0.5, 0.5, 0.0]])


def test_a_top_p_of_1_leaves_no_token_out():
    flat = jnp.asarray(np.float32(np.random.default_rng(0).normal(size=(1, 100_000))))
    scores = STAY(
        flat, temperature=jnp.float32(1.0), top_k=None, top_p=jnp.float32(1.0)
    )
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("size", [5, 200])
def test_draws_have_their_distribution_and_none_of_weight_0(size):
    rows = 40_000
    scores = 3 * np.random.default_rng(size).normal(size=size)
    scores[[0, size // 2, size - 1]] = -np.inf
    tokens = DRAW(
        jnp.broadcast_to(jnp.asarray(scores, jnp.float32), (rows, size)),
        jax.random.split(jax.random.key(0), rows),
        jnp.zeros(rows, jnp.int32),
    )
    expected = np.exp(scores) / np.sum(np.exp(scores))
    counts = np.bincount(np.asarray(tokens), minlength=size)
    assert counts.shape == (size,)
    assert not counts[expected == 0].any()
    # χ² over its degrees of freedom, of those that are to come up five times.
    often = expected * rows >= 5
    chi = np.square(counts - rows * expected)[often] / (rows * expected[often])
    assert abs(chi.sum() / often.sum() - 1) < 5 * np.sqrt(2 / often.sum())


def test_the_ends_of_the_unit_interval_are_drawn_from_what_has_weight():
    weights = jnp.asarray([[0.0, 0.3, 0.0, 0.7, 0.0], [0.0, 0.0, 1e-30, 0.0, 0.0]])
    for uniform, expected in ((0.0, [1, 2]), (1 - 2.0**-23, [3, 2])):
        entries = draws._inverse(weights, jnp.full(2, uniform, jnp.float32))
        np.testing.assert_array_equal(entries, expected)


def test_the_best_token_is_the_first_of_equal_ones():
    logits = jnp.asarray([[1.0, 3.0, 3.0], [-jnp.inf, -jnp.inf, -2.0]])
    np.testing.assert_array_equal(draws.best(logits), jnp.argmax(logits, axis=-1))
