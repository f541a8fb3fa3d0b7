"""Decoupled, normalized, ranked and binary distillation beside their formulas."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import wasserstein_distance

import losses
from losses import functional
from tests.losses.distillation.logit_families import (
    REFERENCES,
    SQUARED,
    VOCABULARY,
    drawn,
    gradient,
    value,
)

every_family = pytest.mark.parametrize(
    ("loss", "reference"), REFERENCES.values(), ids=REFERENCES
)


def slope64(reference, t, s, y, *, step=1e-5):
    """Central differences of a row, in float64."""
    unit = step * np.eye(VOCABULARY)
    up, down = ([reference(t, s + sign * e, y) for e in unit] for sign in (1, -1))
    return (np.array(up) - np.array(down)) / (2 * step)


@every_family
@pytest.mark.parametrize("shape", [(2, 4), (5,)], ids=["language", "classification"])
def test_value_and_gradient_are_those_of_the_printed_formula(loss, reference, shape):
    t, s, targets = drawn(shape)
    expected, slopes = np.zeros(shape), np.zeros(s.shape)
    for at in np.ndindex(shape):
        expected[at] = reference(t[at], s[at], targets[at])
        slopes[at] = slope64(reference, t[at], s[at], targets[at])
    np.testing.assert_allclose(value(loss, t, s, targets), expected, rtol=2e-5)
    np.testing.assert_allclose(
        gradient(loss, t, s, targets), slopes, rtol=1e-4, atol=3e-5
    )


def test_values_by_hand():
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2), the label is the first."""
    t, s = np.log([[[2.0, 1.0, 1.0]], [[1.0, 1.0, 2.0]]])

    def of(loss):
        return value(loss, t, s, [0])[0]

    of_target = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    of_others = 0.5 * math.log(3 / 2) + 0.5 * math.log(3 / 4)
    np.testing.assert_allclose(
        of(losses.DecoupledKD(non_target_weight=8.0)),
        of_target + 8 * of_others,
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        of(losses.NormalizedKD()),
        0.5 * math.log(4) + 0.5 * math.log(3) + 0.5 * math.log(3 / 2),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        of(losses.PlackettLuce()), 0.5 * math.log(4) + 0.25 * math.log(3), rtol=1e-5
    )
    np.testing.assert_allclose(
        of(losses.InterClassCorrelation()), 1 - (-1 / 2), rtol=1e-5
    )
    gap = math.log(2) / 2
    np.testing.assert_allclose(
        of(losses.BinaryKLNorm()), 2 * math.log(math.cosh(gap)), rtol=1e-5
    )
    np.testing.assert_allclose(
        of(losses.Standardized(loss=losses.LogitMSE())), 2 * (1 + 1 / 2), rtol=1e-4
    )


def test_decoupled_with_the_weights_of_kl_is_kl():
    """`KL(p‖q) = TCKD + (1 - p_y) NCKD`, the identity that DKD starts from."""
    t, s, targets = drawn()
    only = losses.DecoupledKD(temperature=2.0, non_target_weight=0.0)
    both = losses.DecoupledKD(temperature=2.0)
    of_target = value(only, t, s, targets)
    of_others = value(both, t, s, targets) - of_target
    p_y = np.take_along_axis(softmax(t / 2, axis=-1), targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(
        of_target + (1 - p_y) * of_others,
        value(losses.ForwardKL(temperature=2.0), t, s, targets),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_saturated_teacher_still_teaches_the_non_targets():
    """`1 - p_y` is 0 in float32; the renormalized others are not."""
    t, s = np.array([[60.0, 1.0, 2.0, 0.0, 0.0, 0.0]]), np.zeros((1, 6))
    s[0, 0] = 50.0
    loss = losses.DecoupledKD(target_weight=0.0)
    expected = np.sum(softmax(t[0, 1:]) * log_softmax(t[0, 1:])) + math.log(5)
    np.testing.assert_allclose(value(loss, t, s, [0]), [expected], rtol=1e-5)
    actual = gradient(loss, t, s, [0])[0, 1:]
    np.testing.assert_allclose(actual, 0.2 - softmax(t[0, 1:]), rtol=1e-4)


def sure_of(targets):
    """A teacher with all its mass on the target."""
    return 1e4 * np.eye(VOCABULARY)[targets]


@pytest.mark.parametrize(
    "loss",
    [losses.NormalizedKD(non_target_weight=0.0), losses.PlackettLuce()],
    ids=["normalized", "plackett_luce"],
)
def test_a_teacher_sure_of_the_label_gives_cross_entropy(loss):
    _, s, targets = drawn()
    plain = losses.CrossEntropy()
    t = sure_of(targets)
    np.testing.assert_allclose(
        value(loss, t, s, targets), value(plain, t, s, targets), rtol=1e-5
    )
    np.testing.assert_allclose(
        gradient(loss, t, s, targets), gradient(plain, t, s, targets), atol=1e-5
    )


def test_target_and_non_target_gradients_of_normalized_kd_are_separate():
    """`p_y (q - onehot)` of the target's; none on the target's logit of the others'."""
    t, s, targets = drawn()
    onehot = np.eye(VOCABULARY)[targets]
    p_y = np.sum(softmax(t, axis=-1) * onehot, axis=-1, keepdims=True)
    of_target = gradient(losses.NormalizedKD(non_target_weight=0.0), t, s, targets)
    expected = p_y * (softmax(s, axis=-1) - onehot)
    np.testing.assert_allclose(of_target, expected, rtol=1e-4, atol=1e-6)
    both = gradient(losses.NormalizedKD(temperature=3.0), t, s, targets)
    at_target = np.sum((both - of_target) * onehot, axis=-1)
    np.testing.assert_allclose(at_target, 0.0, atol=1e-6)


def test_two_entries_have_no_non_target_loss():
    t, s, _ = drawn()
    t, s, targets = t[..., :2], s[..., :2], np.zeros((2, 4), int)
    of_target = losses.NormalizedKD(non_target_weight=0.0)
    np.testing.assert_allclose(
        value(losses.NormalizedKD(), t, s, targets),
        value(of_target, t, s, targets),
        rtol=1e-6,
    )
    crossed = softmax(t, axis=-1)[..., 0] * -log_softmax(s, axis=-1)[..., 0]
    np.testing.assert_allclose(
        value(losses.PlackettLuce(), t, s, targets), crossed, rtol=1e-5
    )


def test_the_gradient_of_a_ranking_is_the_closed_form():
    """`-p_r + Σ_{k≤r} p_k softmax(suffix k)_r`, and it sums to zero."""
    t, s, targets = drawn((3,))
    actual = gradient(losses.PlackettLuce(), t, s, targets)
    for at, y in enumerate(targets):
        order = [y, *[i for i in np.argsort(-t[at]) if i != y]]
        p = softmax(t[at])[order]
        expected = -p
        for k in range(VOCABULARY):
            expected[k:] += p[k] * softmax(s[at][order[k:]])
        np.testing.assert_allclose(actual[at][order], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual.sum(-1), 0.0, atol=1e-6)


@pytest.mark.parametrize("gap", [0.0, 1e-3, 5.0, 40.0, 1e4])
def test_binary_kl_norm_is_log_cosh_with_a_bounded_gradient(gap):
    """Where the clamped probabilities of the source are infinite in float32, too."""
    t, s = np.zeros((1, VOCABULARY)), np.full((1, VOCABULARY), gap)
    loss = losses.BinaryKLNorm(temperature=2.0, **SQUARED)
    x = gap / 4.0
    log_cosh = x + np.log1p(np.exp(-2 * x)) - math.log(2)
    np.testing.assert_allclose(
        value(loss, t, s, [0]), [4 * VOCABULARY * log_cosh], rtol=1e-5, atol=1e-5
    )
    actual = gradient(loss, t, s, [0])
    np.testing.assert_allclose(actual, np.tanh(x), rtol=1e-5, atol=1e-7)  # T/2 is 1


def test_the_gradient_of_binary_kl_is_the_difference_of_sigmoids():
    t, s, targets = drawn(scale=30.0)
    actual = gradient(losses.BinaryKL(temperature=2.0, **SQUARED), t, s, targets)
    p, q = (1 / (1 + np.exp(-x / 2)) for x in (t, s))
    np.testing.assert_allclose(actual, 2 * (q - p), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [losses.BinaryKL, losses.BinaryKLNorm])
def test_hot_binary_kl_is_an_eighth_of_the_squared_distance(kind):
    t, s, targets = drawn()
    actual = gradient(kind(temperature=100.0, **SQUARED), t, s, targets)
    np.testing.assert_allclose(actual, (s - t) / 4, atol=2e-3)


def test_binary_kl_depends_on_the_level_of_logits():
    t, s, targets = drawn()
    for kind, both in ((losses.BinaryKL, False), (losses.BinaryKLNorm, True)):
        at = value(kind(), t, s, targets)
        assert np.all(value(kind(), t, s + 3.0, targets) != at)
        same = np.allclose(value(kind(), t + 3.0, s + 3.0, targets), at, rtol=1e-4)
        assert same == both


def test_sorted_scores_are_as_far_apart_as_scipy_says():
    logits = np.random.default_rng(5).normal(size=(2, 4, 6)).astype(np.float32)
    values = functional.sorted_logits(*logits, best=4, scores="logits")
    best = -np.sort(-np.float64(logits), axis=-1)[..., :4]
    expected = [wasserstein_distance(*pair) for pair in zip(*best, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
