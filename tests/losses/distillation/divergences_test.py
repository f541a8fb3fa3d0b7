"""Divergences over whole logits: values, properties, gradients, refusals."""

import dataclasses
import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

import losses

TOKENS, VOCABULARY = 4, 6


def kl64(a, b):
    return np.sum(a * (np.log(a) - np.log(b)), axis=-1)


def jensen_shannon64(p, q, b):
    m = b * p + (1 - b) * q
    return b * kl64(p, m) + (1 - b) * kl64(q, m)


def adaptive64(p, q):
    """The paper's loop, a token at a time."""
    values = []
    for p_token, q_token in zip(p, q, strict=True):
        gaps, mass = [0.0, 0.0], 0.0
        for place, entry in enumerate(np.argsort(-p_token)):
            mass += p_token[entry]
            part = 1 if place > 0 and mass > 0.5 else 0
            gaps[part] += abs(p_token[entry] - q_token[entry])
        weight = gaps[0] / sum(gaps)
        forward, reverse = kl64(p_token, q_token), kl64(q_token, p_token)
        values.append(weight * forward + (1 - weight) * reverse)
    return np.array(values)


REFERENCES = {
    losses.ForwardKL(): kl64,
    losses.ReverseKL(): lambda p, q: kl64(q, p),
    losses.SymmetricKL(reverse_weight=0.9): lambda p, q: (
        0.1 * kl64(p, q) + 0.9 * kl64(q, p)
    ),
    losses.JensenShannon(): lambda p, q: jensen_shannon64(p, q, 0.5),
    losses.JensenShannon(beta=0.1): lambda p, q: jensen_shannon64(p, q, 0.1),
    losses.SkewForwardKL(skew=0.1): lambda p, q: kl64(p, 0.1 * p + 0.9 * q),
    losses.SkewReverseKL(skew=0.1): lambda p, q: kl64(q, 0.9 * p + 0.1 * q),
    losses.TotalVariation(): lambda p, q: np.maximum(p - q, 0).sum(-1),
    losses.AlphaDivergence(order=0.3): lambda p, q: (
        (1 - np.sum(p**0.3 * q**0.7, -1)) / 0.21
    ),
    losses.AlphaDivergence(order=0.5): lambda p, q: (
        2 * np.sum((np.sqrt(p) - np.sqrt(q)) ** 2, -1)
    ),
    losses.RenyiDivergence(order=0.3): lambda p, q: (
        np.log(np.sum(p**0.3 * q**0.7, -1)) / -0.7
    ),
    losses.RenyiDivergence(order=2.0): lambda p, q: np.log(np.sum(p**2 / q, -1)),
    losses.AdaptiveKL(): adaptive64,
}

# `g(u) = f(u) - u f'(u)` where `D = Σ_v q_v f(u_v)`, `u = p / q`.
GENERATORS = {
    losses.ForwardKL(): lambda u: -u,
    losses.ReverseKL(): lambda u: 1 - np.log(u),
    losses.SymmetricKL(reverse_weight=0.9): lambda u: -0.1 * u + 0.9 * (1 - np.log(u)),
    losses.JensenShannon(beta=0.3): lambda u: -0.7 * np.log(0.3 * u + 0.7),
    losses.SkewForwardKL(skew=0.1): lambda u: -0.9 * u / (0.1 * u + 0.9),
    losses.SkewReverseKL(skew=0.1): lambda u: (
        -np.log(0.9 * u + 0.1) + 0.9 * u / (0.9 * u + 0.1)
    ),
    losses.TotalVariation(): lambda u: -0.5 * np.sign(u - 1),
    losses.AlphaDivergence(order=0.3): lambda u: -(u**0.3 - 1) / 0.3,
}


def label(loss):
    fields = [name for name in ("beta", "skew", "order") if hasattr(loss, name)]
    return type(loss).__name__ + "".join(f"-{getattr(loss, x)}" for x in fields)


every_divergence = pytest.mark.parametrize("loss", REFERENCES, ids=label)

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


def outputs(t, s):
    t, s = jnp.asarray(t, jnp.float32), jnp.asarray(s, jnp.float32)
    batch = {"targets": jnp.zeros(s.shape[:-1], jnp.int32)}
    return losses.FullOutputs(
        batch=batch, logits=s, teacher=losses.TeacherOutputs(logits=t)
    )


ORDERS = tuple(losses.RenyiDivergence(order=a) for a in (0.2, 0.5, 1.0, 2.0, 8.0))
LIMITS = {
    losses.AlphaDivergence(order=0.999): losses.ForwardKL(),
    losses.AlphaDivergence(order=1.0): losses.ForwardKL(),
    losses.AlphaDivergence(order=0.001): losses.ReverseKL(),
    losses.AlphaDivergence(order=0.0): losses.ReverseKL(),
    losses.RenyiDivergence(order=0.999): losses.ForwardKL(),
    losses.RenyiDivergence(order=1.0): losses.ForwardKL(),
    losses.SkewForwardKL(skew=1e-4): losses.ForwardKL(),
    losses.SkewForwardKL(skew=0.0): losses.ForwardKL(),
    losses.SkewReverseKL(skew=0.0): losses.ReverseKL(),
    losses.SymmetricKL(reverse_weight=0.0): losses.ForwardKL(),
    losses.SymmetricKL(reverse_weight=1.0): losses.ReverseKL(),
}
HOT = {loss: dataclasses.replace(loss, temperature=2.0) for loss in REFERENCES}
SCALED = {
    loss: dataclasses.replace(hot, scale_by_temperature_squared=True)
    for loss, hot in HOT.items()
}

# What is evaluated at the same shapes is one program, which compiles faster than many.
TOGETHER = (
    tuple(dict.fromkeys([*REFERENCES, *GENERATORS])),
    (*HOT.values(), *SCALED.values()),
    tuple(dict.fromkeys([*ORDERS, *LIMITS])),
)


def together(loss):
    """The losses of the program that evaluates this one, and its place in them."""
    these = next((group for group in TOGETHER if loss in group), (loss,))
    return these, these.index(loss)


@functools.cache
def compiled(these):
    return jax.jit(lambda t, s: [loss(outputs(t, s)) for loss in these])


@functools.cache
def gradients_of(these):
    def gradient(loss, s, t):
        return jax.grad(lambda s: jnp.sum(loss(outputs(t, s))))(s)

    return jax.jit(lambda s, t: [gradient(loss, s, t) for loss in these])


def value(loss, t, s):
    """The loss in float32 of logits in float64."""
    these, place = together(loss)
    actual = compiled(these)(np.float32(t), np.float32(s))[place]
    return np.asarray(actual, np.float64)


def gradient(loss, t, s):
    these, place = together(loss)
    actual = gradients_of(these)(np.float32(s), np.float32(t))[place]
    return np.asarray(actual, np.float64)


def of(loss, p, q):
    """One token's value, from probabilities."""
    with np.errstate(divide="ignore"):
        return float(value(loss, np.log([p]), np.log([q]))[0])


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
def test_jensen_shannon_swaps_with_its_share(logits, beta):
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
def test_a_family_ends_in_its_limits(near):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    np.testing.assert_allclose(value(near, t, s), value(LIMITS[near], t, s), rtol=3e-3)


def test_jensen_shannon_is_proportional_to_forward_kl_near_zero_and_zero_at_it():
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    actual = value(losses.JensenShannon(beta=1e-3), t, s)
    np.testing.assert_allclose(
        actual / 1e-3, value(losses.ForwardKL(), t, s), rtol=0.02
    )


def test_values_by_hand():
    p, q, log = [1 / 2, 1 / 2], [1 / 4, 3 / 4], math.log
    expected = {
        losses.ForwardKL(): 1 / 2 * log(2) + 1 / 2 * log(2 / 3),
        losses.ReverseKL(): 1 / 4 * log(1 / 2) + 3 / 4 * log(3 / 2),
        losses.TotalVariation(): 1 / 4,
        losses.RenyiDivergence(order=2.0): log(1 + 1 / 3),
        losses.AlphaDivergence(): 4 - math.sqrt(2) - math.sqrt(6),
    }
    for loss, by_hand in expected.items():
        np.testing.assert_allclose(of(loss, p, q), by_hand, rtol=1e-5)


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
def test_the_temperature_divides_both_logits(loss):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY), scale=3.0)
    hot = value(HOT[loss], t, s)
    np.testing.assert_allclose(hot, value(loss, t / 2, s / 2), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(value(SCALED[loss], t, s), 4 * hot, rtol=1e-6)


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


@every_divergence
def test_an_entry_impossible_on_both_sides_is_no_entry(loss):
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
def test_of_unlike_widths_the_shared_ids_are_compared(loss, wider):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    more = np.full((TOKENS, 2), 5.0)
    wide_t, wide_s = (
        np.concatenate([x, more], -1) if name == wider else x
        for name, x in (("teacher", t), ("student", s))
    )
    np.testing.assert_allclose(
        value(loss, wide_t, wide_s), value(loss, t, s), rtol=1e-5, atol=1e-7
    )


def test_what_is_nan_is_not_hidden():
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
        (lambda: losses.AlphaDivergence(order=2.0), "RenyiDivergence"),
        (lambda: losses.RenyiDivergence(order=0.0), "order must be positive"),
        (lambda: losses.SymmetricKL(reverse_weight=2.0), "reverse_weight must be in"),
        (lambda: losses.AdaptiveKL(head_mass=1.0), "head_mass must be in"),
        (lambda: losses.TotalVariation(temperature=math.nan), "positive, got nan"),
    ],
)
def test_what_is_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("loss", [losses.ForwardKL(), losses.LogitMSE()], ids=label)
def test_without_a_teacher_it_says_so(loss):
    inputs = losses.FullOutputs(batch={}, logits=jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="there is none"):
        loss(inputs)
