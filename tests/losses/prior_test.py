"""Logits beside a prior's, against SciPy's kurtosis and z-scores."""

import functools

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

import losses
from losses import functional
from tests.losses.distillation.logit_families import drawn, gradient, value


def fused(t, s, *, scale, power, of="logits", typical=1.0):
    """As released: deviations with Bessel's correction, in float64."""
    t, s = np.float64(t), np.float64(s)
    scores = t if of == "logits" else scipy.special.softmax(t, axis=-1)
    normed = np.asarray(scipy.stats.zscore(scores, axis=-1, ddof=1))
    fourth = np.mean(normed**4, axis=-1)
    weight = scale * (fourth[..., None] / typical) ** -power
    return t + weight * scipy.stats.zscore(s, axis=-1, ddof=1)


def test_logits_beside_a_prior_are_weighted_by_its_kurtosis():
    t, s, targets = drawn()
    at = (*np.indices(targets.shape), targets)
    for fields in (
        {"scale": 0.5, "power": 0.4},
        {"scale": 2.0, "power": 0.0},
        {"scale": 0.5, "power": 0.4, "of": "probabilities", "typical": 250.0},
    ):
        loss = losses.WithPrior(loss=losses.CrossEntropy(), **fields)
        log_q = scipy.special.log_softmax(fused(t, s, **fields), axis=-1)
        np.testing.assert_allclose(value(loss, t, s, targets), -log_q[at], rtol=2e-4)
    # Neither the scale nor the level of the student is learned.
    slope = gradient(loss, t, s, targets)
    np.testing.assert_allclose(np.sum(slope, -1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.sum(slope * s, -1), 0.0, atol=1e-5)


def test_a_prior_without_an_opinion_leaves_the_student_its_own():
    s, with_prior = (
        np.float32([[1.0, 2.0, 4.0]]),
        jax.jit(functools.partial(functional.with_prior, power=0.5)),
    )
    both = with_prior(s, np.zeros((1, 3), np.float32))
    own = scipy.stats.zscore(s, axis=-1, ddof=1) * 0.5 * (2 / 3) ** -1.0
    np.testing.assert_allclose(both, own, rtol=1e-5)
    with pytest.raises(ValueError, match="must not read the teacher"):
        losses.WithPrior(loss=losses.ForwardKL())
