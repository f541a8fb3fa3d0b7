"""Standardized logits: no scale, no level, either deviation, impossible entries."""

import math

import numpy as np
import pytest

import losses
from tests.losses.distillation.logit_families import (
    VOCABULARY,
    drawn,
    gradient,
    value,
)

INNER = losses.ForwardKL(temperature=2.0)


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_standardized_logits_have_neither_scale_nor_level(scale):
    loss, (t, s, targets) = losses.Standardized(loss=INNER), drawn()
    expected = value(loss, t, s, targets)
    for pair in ((scale * t + 3.0, s), (t, scale * s - 2.0)):
        np.testing.assert_allclose(value(loss, *pair, targets), expected, rtol=2e-4)


def test_the_gradient_of_standardized_logits_moves_neither_scale_nor_level():
    t, s, targets = drawn()
    actual = gradient(losses.Standardized(loss=INNER), t, s, targets)
    np.testing.assert_allclose(np.sum(actual, -1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.sum(actual * s, -1), 0.0, atol=1e-5)


def test_the_two_deviations_differ_by_the_temperature():
    t, s, targets = drawn()
    hotter = 2.0 * math.sqrt(VOCABULARY / (VOCABULARY - 1))
    as_paper = losses.Standardized(loss=losses.ForwardKL(temperature=hotter))
    as_code = losses.Standardized(loss=INNER, ddof=1)
    np.testing.assert_allclose(
        value(as_code, t, s, targets), value(as_paper, t, s, targets), rtol=1e-5
    )


def test_equal_logits_have_a_finite_gradient():
    t, _, targets = drawn()
    actual = gradient(losses.Standardized(loss=INNER), t, np.zeros(t.shape), targets)
    assert np.all(np.isfinite(actual))
    assert np.any(actual)


def test_the_squared_distance_of_standardized_logits_is_their_correlation():
    """`1/V Σ (z_s - z_t)² = 2 (1 - r)`."""
    t, s, targets = drawn()
    actual = value(losses.Standardized(loss=losses.LogitMSE()), t, s, targets)
    for at in np.ndindex(targets.shape):
        r = np.corrcoef(t[at], s[at])[0, 1]
        np.testing.assert_allclose(actual[at], 2 * (1 - r), rtol=1e-4)


def test_any_loss_may_see_standardized_logits():
    t, s, targets = drawn()
    z = [(x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) for x in (t, s)]
    inner = losses.DecoupledKD(temperature=2.0, non_target_weight=8.0)
    np.testing.assert_allclose(
        value(losses.Standardized(loss=inner), t, s, targets),
        value(inner, z[0], z[1], targets),
        rtol=1e-4,
    )


def test_impossible_entries_are_no_part_of_mean_and_variance():
    t, s, targets = drawn()
    wider = [np.concatenate([x, np.full((2, 4, 2), -np.inf)], axis=-1) for x in (t, s)]
    loss = losses.Standardized(loss=INNER)
    np.testing.assert_allclose(
        value(loss, wider[0], wider[1], targets), value(loss, t, s, targets), rtol=1e-5
    )
    np.testing.assert_allclose(
        gradient(loss, wider[0], wider[1], targets)[..., :VOCABULARY],
        gradient(loss, t, s, targets),
        rtol=1e-4,
        atol=1e-6,
    )
