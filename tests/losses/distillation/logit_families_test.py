"""Published families of logit distillation beside their formulas in float64 loops."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

import losses

VOCABULARY = 6


def decoupled64(t, s, y, *, temperature, target_weight, non_target_weight):
    """As printed: probabilities, the target cut out of the row."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    p_pair, q_pair = np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]])
    p_hat, q_hat = np.delete(p, y) / (1 - p[y]), np.delete(q, y) / (1 - q[y])
    of_target = np.sum(p_pair * np.log(p_pair / q_pair))
    of_others = np.sum(p_hat * np.log(p_hat / q_hat))
    weighted = target_weight * of_target + non_target_weight * of_others
    return temperature**2 * weighted


def normalised64(t, s, y, *, temperature, gamma):
    of_target = -softmax(t)[y] * log_softmax(s)[y]
    p_hat = softmax(np.delete(t, y) / temperature)
    log_q_hat = log_softmax(np.delete(s, y) / temperature)
    return of_target - gamma * temperature**2 * np.sum(p_hat * log_q_hat)


def plackett_luce64(t, s, y, *, temperature):
    order = [y, *[int(i) for i in np.argsort(-t) if i != y]]
    weights = softmax(t / temperature)
    total = 0.0
    for place, entry in enumerate(order):
        left = np.array([s[i] for i in order[place:]])
        total += weights[entry] * (np.log(np.sum(np.exp(left))) - s[entry])
    return total


def standardised64(t, s, y, *, temperature, ddof):
    del y
    z = [(x - x.mean()) / x.std(ddof=ddof) / temperature for x in (t, s)]
    p, log_q = softmax(z[0]), log_softmax(z[1])
    return temperature**2 * np.sum(p * (np.log(p) - log_q))


def binary64(t, s, y, *, temperature):
    del y
    p, q = (1 / (1 + np.exp(-x / temperature)) for x in (t, s))
    terms = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * np.sum(terms)


def binary_norm64(t, s, y, *, temperature):
    """As the code has it: KL of a half from the sigmoid of the gap."""
    del y
    q = 1 / (1 + np.exp(-(s - t) / temperature))
    return temperature**2 * np.sum(0.5 * np.log(0.5 / q) + 0.5 * np.log(0.5 / (1 - q)))


def inter_class64(t, s, y, *, temperature):
    del y
    r = np.corrcoef(softmax(t / temperature), softmax(s / temperature))[0, 1]
    return temperature**2 * (1 - r)


SQUARED = {"scale_by_temperature_squared": True}
REFERENCES = {
    "decoupled": (
        losses.DecoupledKD(
            temperature=4.0, target_weight=1.0, non_target_weight=8.0, **SQUARED
        ),
        functools.partial(
            decoupled64, temperature=4.0, target_weight=1.0, non_target_weight=8.0
        ),
    ),
    "decoupled, plain": (
        losses.DecoupledKD(target_weight=0.3),
        functools.partial(
            decoupled64, temperature=1.0, target_weight=0.3, non_target_weight=1.0
        ),
    ),
    "normalised, ImageNet": (
        losses.NormalizedKD(non_target_weight=1.5, **SQUARED),
        functools.partial(normalised64, temperature=1.0, gamma=1.5),
    ),
    "normalised, CIFAR": (
        losses.NormalizedKD(temperature=3.0, non_target_weight=3.5, **SQUARED),
        functools.partial(normalised64, temperature=3.0, gamma=3.5),
    ),
    "plackett_luce": (
        losses.PlackettLuce(),
        functools.partial(plackett_luce64, temperature=1.0),
    ),
    "plackett_luce, hot": (
        losses.PlackettLuce(temperature=4.0),
        functools.partial(plackett_luce64, temperature=4.0),
    ),
    "standardised": (
        losses.Standardized(loss=losses.ForwardKL(temperature=2.0, **SQUARED)),
        functools.partial(standardised64, temperature=2.0, ddof=0),
    ),
    "standardised, Bessel": (
        losses.Standardized(loss=losses.ForwardKL(temperature=2.0, **SQUARED), ddof=1),
        functools.partial(standardised64, temperature=2.0, ddof=1),
    ),
    "binary": (
        losses.BinaryKL(temperature=2.0, **SQUARED),
        functools.partial(binary64, temperature=2.0),
    ),
    "binary_norm": (
        losses.BinaryKLNorm(temperature=2.0, **SQUARED),
        functools.partial(binary_norm64, temperature=2.0),
    ),
    "inter_class": (
        losses.InterClassCorrelation(temperature=4.0, **SQUARED),
        functools.partial(inter_class64, temperature=4.0),
    ),
}
every_family = pytest.mark.parametrize(
    ("loss", "reference"), REFERENCES.values(), ids=REFERENCES
)


def drawn(shape=(2, 4), *, seed=0, scale=2.0):
    """Logits of teacher and student, and targets."""
    draw = np.random.default_rng(seed)
    t, s = draw.normal(size=(2, *shape, VOCABULARY), scale=scale)
    return t, s, draw.integers(0, VOCABULARY, shape)


def outputs(t, s, targets):
    return losses.FullOutputs(
        batch={"targets": jnp.asarray(targets, jnp.int32)},
        logits=jnp.asarray(s, jnp.float32),
        teacher=losses.TeacherOutputs(logits=jnp.asarray(t, jnp.float32)),
    )


@functools.cache
def compiled(loss):
    """Jitted `(s, t, targets) -> ((sum, values), gradient in s)`."""

    def total(s, t, targets):
        values = loss(outputs(t, s, targets))
        return jnp.sum(values), values

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def value_and_gradient(loss, t, s, targets):
    s, t = (jnp.asarray(x, jnp.float32) for x in (s, t))
    (_, values), grad = compiled(loss)(s, t, jnp.asarray(targets, jnp.int32))
    return np.asarray(values, np.float64), np.asarray(grad, np.float64)


def value(loss, t, s, targets):
    return value_and_gradient(loss, t, s, targets)[0]


def gradient(loss, t, s, targets):
    return value_and_gradient(loss, t, s, targets)[1]


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


def test_decoupled_weighed_as_kl_has_it_is_kl():
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


def test_a_teacher_sure_beyond_float32_still_teaches_the_others():
    """`1 - p_y` is 0 in float32; the renormalised others are not."""
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
    ids=["normalised", "plackett_luce"],
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


def test_parts_of_the_normalised_loss_have_gradients_apart():
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


def test_two_entries_leave_nothing_among_the_others():
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


INNER = losses.ForwardKL(temperature=2.0)


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_standardised_logits_have_neither_scale_nor_level(scale):
    loss, (t, s, targets) = losses.Standardized(loss=INNER), drawn()
    expected = value(loss, t, s, targets)
    for pair in ((scale * t + 3.0, s), (t, scale * s - 2.0)):
        np.testing.assert_allclose(value(loss, *pair, targets), expected, rtol=2e-4)


def test_the_gradient_of_standardised_logits_moves_neither_scale_nor_level():
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


def test_the_squared_distance_of_standardised_logits_is_their_correlation():
    """`1/V Σ (z_s - z_t)² = 2 (1 - r)`."""
    t, s, targets = drawn()
    actual = value(losses.Standardized(loss=losses.LogitMSE()), t, s, targets)
    for at in np.ndindex(targets.shape):
        r = np.corrcoef(t[at], s[at])[0, 1]
        np.testing.assert_allclose(actual[at], 2 * (1 - r), rtol=1e-4)


def test_any_loss_may_see_standardised_logits():
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


@pytest.mark.parametrize("gap", [0.0, 1e-3, 5.0, 40.0, 1e4])
def test_yes_or_no_of_the_gap_is_log_cosh_with_a_bounded_gradient(gap):
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


def test_the_gradient_of_a_yes_or_no_is_the_difference_of_sigmoids():
    t, s, targets = drawn(scale=30.0)
    actual = gradient(losses.BinaryKL(temperature=2.0, **SQUARED), t, s, targets)
    p, q = (1 / (1 + np.exp(-x / 2)) for x in (t, s))
    np.testing.assert_allclose(actual, 2 * (q - p), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [losses.BinaryKL, losses.BinaryKLNorm])
def test_hot_yes_or_no_is_an_eighth_of_the_squared_distance(kind):
    t, s, targets = drawn()
    actual = gradient(kind(temperature=100.0, **SQUARED), t, s, targets)
    np.testing.assert_allclose(actual, (s - t) / 4, atol=2e-3)


def test_a_level_is_seen_by_yes_or_no_and_by_no_softmax():
    t, s, targets = drawn()
    for kind, both in ((losses.BinaryKL, False), (losses.BinaryKLNorm, True)):
        at = value(kind(), t, s, targets)
        assert np.all(value(kind(), t, s + 3.0, targets) != at)
        same = np.allclose(value(kind(), t + 3.0, s + 3.0, targets), at, rtol=1e-4)
        assert same == both
