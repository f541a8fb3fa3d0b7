"""Divergences of random logits: values, properties and gradients."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import optax
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

import losses
from tests.losses.distillation.divergences import (
    GENERATORS,
    HOT,
    LIMITS,
    ORDERS,
    REFERENCES,
    SCALED,
    TOKENS,
    VOCABULARY,
    every_divergence,
    gradient,
    label,
    outputs,
    value,
)

logits = st.builds(
    lambda seed, scale: np.random.default_rng(seed).normal(
        size=(2, TOKENS, VOCABULARY), scale=scale
    ),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.01, 8.0),
)


examples = hypothesis.settings(max_examples=25)


def softmax64(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@every_divergence
@examples
@hypothesis.given(logits)
def test_the_value_is_that_of_float64(loss, logits):
    p, q = softmax64(logits)
    np.testing.assert_allclose(
        value(loss, *logits), REFERENCES[loss](p, q), rtol=1e-4, atol=3e-6
    )


of_optax = jax.jit(optax.losses.kl_divergence)


@examples
@hypothesis.given(logits)
def test_scipy_and_optax_agree(logits):
    p, q = softmax64(logits)
    near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=3e-6)
    near(value(losses.ForwardKL(), *logits), rel_entr(p, q).sum(-1))
    near(value(losses.ReverseKL(), *logits), rel_entr(q, p).sum(-1))
    near(
        value(losses.JensenShannon(), *logits),
        [jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)],
    )
    near(
        value(losses.ForwardKL(), *logits),
        of_optax(np.float32(np.log(q)), np.float32(p)),
    )


@every_divergence
@examples
@hypothesis.given(logits)
def test_never_negative_and_zero_only_where_equal(loss, logits):
    t, s = logits
    p, q = softmax64(logits)
    apart = np.abs(p - q).sum(-1)
    actual = value(loss, t, s)
    assert np.all(actual > -2e-6)
    assert np.all(actual[apart > 0.02] > 1e-6)
    np.testing.assert_allclose(value(loss, t, t + 3.0), 0.0, atol=2e-6)


@every_divergence
@examples
@hypothesis.given(logits)
def test_the_gradient_of_a_token_sums_to_zero(loss, logits):
    t, s = logits
    actual = gradient(loss, t, s)
    size = np.abs(actual).sum(-1)
    # Log-probabilities are rounded before their difference is taken.
    p, q = softmax64(logits)
    rounding = np.finfo(np.float32).eps * np.max(np.abs(np.log(p / q)), axis=-1)
    assert np.all(np.abs(actual.sum(-1)) <= 1e-6 + 2e-6 * size + rounding)


@pytest.mark.parametrize("loss", GENERATORS, ids=label)
@examples
@hypothesis.given(logits)
def test_the_gradient_is_that_of_its_generator(loss, logits):
    """`dD/ds_j = q_j (g(u_j) - Σ_v q_v g(u_v))`."""
    p, q = softmax64(logits)
    g = GENERATORS[loss](p / q)
    expected = q * (g - np.sum(q * g, -1, keepdims=True))
    np.testing.assert_allclose(gradient(loss, *logits), expected, rtol=2e-4, atol=2e-5)


@examples
@hypothesis.given(logits, st.floats(0.05, 0.95))
def test_jensen_shannon_is_unchanged_by_swapping_sides_and_share(logits, beta):
    t, s = logits

    def jensen_shannon(beta, t, s):
        return losses.JensenShannon(beta=beta)(outputs(t, s))

    np.testing.assert_allclose(
        jensen_shannon(beta, t, s), jensen_shannon(1 - beta, s, t), atol=2e-6
    )


@examples
@hypothesis.given(logits)
def test_pinsker_bounds_the_total_variation(logits):
    bound = np.sqrt(np.maximum(value(losses.ForwardKL(), *logits), 0.0) / 2)
    assert np.all(value(losses.TotalVariation(), *logits) <= bound + 1e-3)


@examples
@hypothesis.given(logits)
def test_renyi_does_not_decrease_with_its_order(logits):
    actual = [value(loss, *logits) for loss in ORDERS]
    assert np.all(np.diff(actual, axis=0) >= -3e-6 - 1e-5 * np.abs(actual[-1]))


@pytest.mark.parametrize("near", LIMITS, ids=label)
def test_families_approach_their_limiting_divergences(near):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    np.testing.assert_allclose(value(near, t, s), value(LIMITS[near], t, s), rtol=3e-3)


def test_jensen_shannon_is_proportional_to_forward_kl_near_zero_and_zero_at_it():
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    actual = value(losses.JensenShannon(beta=1e-3), t, s)
    np.testing.assert_allclose(
        actual / 1e-3, value(losses.ForwardKL(), t, s), rtol=0.02
    )


@every_divergence
def test_the_temperature_divides_both_logits(loss):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY), scale=3.0)
    hot = value(HOT[loss], t, s)
    np.testing.assert_allclose(hot, value(loss, t / 2, s / 2), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(value(SCALED[loss], t, s), 4 * hot, rtol=1e-6)


@every_divergence
def test_an_entry_impossible_on_both_sides_is_ignored(loss):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    t[:, 2] = s[:, 2] = -np.inf
    np.testing.assert_allclose(
        value(loss, t, s),
        value(loss, np.delete(t, 2, -1), np.delete(s, 2, -1)),
        rtol=1e-5,
        atol=1e-7,
    )


@every_divergence
@pytest.mark.parametrize("wider", ["teacher", "student"])
def test_logits_of_unlike_widths_are_compared_on_shared_ids(loss, wider):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    more = np.full((TOKENS, 2), 5.0)
    wide_t, wide_s = (
        np.concatenate([x, more], -1) if name == wider else x
        for name, x in (("teacher", t), ("student", s))
    )
    np.testing.assert_allclose(
        value(loss, wide_t, wide_s), value(loss, t, s), rtol=1e-5, atol=1e-7
    )
