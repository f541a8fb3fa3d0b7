"""Divergences by hand and at extremes, the squared distance of logits, and refusals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from tests.losses.distillation.divergences import (
    TOKENS,
    VOCABULARY,
    every_divergence,
    gradient,
    kl64,
    label,
    of,
    value,
)


def test_values_by_hand():
    p, q, log = [1 / 2, 1 / 2], [1 / 4, 3 / 4], math.log
    expected = {
        losses.ForwardKL(): 1 / 2 * log(2) + 1 / 2 * log(2 / 3),
        losses.ReverseKL(): 1 / 4 * log(1 / 2) + 3 / 4 * log(3 / 2),
        losses.TotalVariation(): 1 / 4,
        losses.RenyiDivergence(order=2.0): log(1 + 1 / 3),
        losses.AlphaDivergence(): 4 - math.sqrt(2) - math.sqrt(6),
        losses.AlphaDivergence(order=2.0): 1 / 3 / 2,  # of Pearson's χ²
        losses.AlphaDivergence(order=-1.0): 1 / 4 / 2,  # of Neyman's
        losses.ToDi(): 1 / 4 * log(2) - 1 / 4 * log(2 / 3),
    }
    for loss, by_hand in expected.items():
        np.testing.assert_allclose(of(loss, p, q), by_hand, rtol=1e-5)


@pytest.mark.parametrize("order", [2.0, -1.0])
def test_orders_beyond_one_are_half_of_chi_squared(order):
    """`Σ (p - q)²/q` of Pearson and `Σ (p - q)²/p` of Neyman, and their gradients."""
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY), scale=2.0)
    p, q = (np.exp(x - np.logaddexp.reduce(x, -1)[:, None]) for x in (t, s))
    slopes = (1 - (p / q) ** 2) / 2 if order == 2.0 else q / p - 1
    loss = losses.AlphaDivergence(order=order)
    expected = np.sum((p - q) ** 2 / (q if order == 2.0 else p), -1) / 2
    np.testing.assert_allclose(value(loss, t, s), expected, rtol=1e-5)
    expected = q * (slopes - np.sum(q * slopes, -1, keepdims=True))
    np.testing.assert_allclose(gradient(loss, t, s), expected, rtol=1e-4, atol=1e-5)


def test_todi_is_both_directions_in_value_and_weighs_each_entry_in_gradient():
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY), scale=2.0)
    p, q = (np.exp(x - np.logaddexp.reduce(x, -1)[:, None]) for x in (t, s))
    both = kl64(p, q) + kl64(q, p)
    np.testing.assert_allclose(value(losses.ToDi(), t, s), both, rtol=1e-5)
    weight = p / (p + q)
    of_entry = (1 - weight) * q * (1 + np.log(q / p)) - weight * p
    expected = of_entry - q * of_entry.sum(-1, keepdims=True)
    actual = gradient(losses.ToDi(), t, s)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_disjoint_distributions_are_as_far_as_can_be():
    p, q = [1.0, 0.0], [0.0, 1.0]
    assert of(losses.TotalVariation(), p, q) == 1.0
    np.testing.assert_allclose(of(losses.JensenShannon(), p, q), math.log(2), rtol=1e-6)
    for loss in (losses.SkewForwardKL(skew=0.1), losses.SkewReverseKL(skew=0.1)):
        np.testing.assert_allclose(of(loss, p, q), math.log(10), rtol=1e-6)


def test_the_adaptive_weight_by_hand():
    """Head: 0.4 alone, for 0.4 + 0.3 > 0.5. Gaps: 0.1 there, 0.1 + 0.2 in the tail."""
    p, q = np.array([0.3, 0.4, 0.3]), np.array([0.4, 0.5, 0.1])
    expected = 1 / 4 * kl64(p, q) + 3 / 4 * kl64(q, p)
    np.testing.assert_allclose(of(losses.AdaptiveKL(), p, q), expected, rtol=1e-5)


def test_the_adaptive_weight_has_no_gradient():
    t, s = np.random.default_rng(0).normal(size=(2, 1, VOCABULARY))
    forward, reverse = (value(x(), t, s) for x in (losses.ForwardKL, losses.ReverseKL))
    weight = (value(losses.AdaptiveKL(), t, s) - reverse) / (forward - reverse)
    expected = weight * gradient(losses.ForwardKL(), t, s) + (1 - weight) * gradient(
        losses.ReverseKL(), t, s
    )
    np.testing.assert_allclose(
        gradient(losses.AdaptiveKL(), t, s), expected, rtol=1e-3, atol=1e-6
    )


@every_divergence
def test_impossible_entries_and_extreme_logits_stay_finite(loss):
    t, s = np.random.default_rng(0).normal(size=(2, 5, VOCABULARY), scale=2.0)
    t[0, 0] = s[1, 0] = t[2, 0] = s[2, 0] = -np.inf
    t[3], s[3] = np.sign(t[3]) * 1e4, np.sign(s[3]) * 1e4
    t[4], s[4] = 0.0, -np.inf
    s[4, 1] = 0.0
    assert np.all(np.isfinite(value(loss, t, s)))
    actual = gradient(loss, t, s)
    assert np.all(np.isfinite(actual))
    assert not np.any(actual[[1, 2], 0])


def test_nan_logits_give_a_nan_value():
    whole, broken = [[0.0, 0.0, 0.0]], [[0.0, np.nan, 0.0]]
    assert np.isnan(value(losses.ForwardKL(), whole, broken))
    assert np.isnan(value(losses.ForwardKL(), broken, whole))


def test_logit_mse_by_hand():
    t, s = [[1.0, 2.0, 3.0, -np.inf]], [[2.0, 0.0, 3.0, 7.0]]
    np.testing.assert_allclose(value(losses.LogitMSE(), t, s), [5 / 3], rtol=1e-6)
    hot = losses.LogitMSE(temperature=2.0)
    np.testing.assert_allclose(value(hot, t, s), [5 / 12], rtol=1e-6)
    scaled = losses.LogitMSE(temperature=2.0, scale_by_temperature_squared=True)
    np.testing.assert_allclose(value(scaled, t, s), [5 / 3], rtol=1e-6)
    assert np.all(np.isfinite(gradient(losses.LogitMSE(), t, s)))
    assert gradient(losses.LogitMSE(), t, s)[0, 3] == 0.0


def test_logit_mse_is_that_of_optax():
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    expected = jax.jit(optax.losses.squared_error)(np.float32(s), np.float32(t))
    np.testing.assert_allclose(
        value(losses.LogitMSE(), t, s), np.mean(expected, -1), rtol=1e-6
    )


def test_forward_kl_of_hot_logits_is_half_their_centred_squared_distance():
    """`T² KL -> 1/(2V) Σ (s - t)²` of centred logits: Hinton et al., section 2.1."""
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    t, s = (x - x.mean(-1, keepdims=True) for x in (t, s))
    hot = losses.ForwardKL(temperature=30.0, scale_by_temperature_squared=True)
    np.testing.assert_allclose(
        value(hot, t, s), value(losses.LogitMSE(), t, s) / 2, rtol=0.1
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.ForwardKL(temperature=0.0), "temperature must be positive"),
        (lambda: losses.LogitMSE(temperature=-1.0), "positive, got -1.0"),
        (lambda: losses.JensenShannon(beta=0.0), r"beta must be in \(0, 1\), got 0.0"),
        (lambda: losses.JensenShannon(beta=1.0), "ForwardKL"),
        (lambda: losses.SkewForwardKL(skew=1.0), r"skew must be in \[0, 1\), got 1.0"),
        (lambda: losses.SkewReverseKL(skew=-0.1), "got -0.1"),
        (lambda: losses.AlphaDivergence(order=math.inf), "order must be finite"),
        (lambda: losses.RenyiDivergence(order=0.0), "order must be positive"),
        (lambda: losses.SymmetricKL(reverse_weight=2.0), "reverse_weight must be in"),
        (lambda: losses.AdaptiveKL(head_mass=1.0), "head_mass must be in"),
        (lambda: losses.TotalVariation(temperature=math.nan), "positive, got nan"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("loss", [losses.ForwardKL(), losses.LogitMSE()], ids=label)
def test_a_missing_teacher_is_refused(loss):
    inputs = losses.FullOutputs(batch={}, logits=jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="there is none"):
        loss(inputs)
