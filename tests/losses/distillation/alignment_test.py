"""Divergences over a teacher's best entries and draws: conventions, bounds, cost."""

import dataclasses
import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import losses
from losses.core.term_values import evaluate
from losses.distillation.divergence import OVER_ENTRIES
from tests.losses.distillation.by_name import BY_NAME

TOKENS, VOCABULARY = 4, 8
every_convention = pytest.mark.parametrize("convention", OVER_ENTRIES)

logits = st.builds(
    lambda seed, scale: np.random.default_rng(seed).normal(
        size=(2, TOKENS, VOCABULARY), scale=scale
    ),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.1, 2.0),
)
examples = hypothesis.settings(max_examples=15)


def softmax64(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def best(t, k, *, temperature=1.0):
    """What records of the k best entries hold: logits up to a constant a token."""
    t = np.asarray(t)
    shifted = t - t.mean(-1, keepdims=True, where=np.isfinite(t)) + 5.0
    indices = np.argsort(-shifted, axis=-1, kind="stable")[..., :k]
    log_z = np.log(np.sum(np.exp(shifted / temperature), -1))
    return losses.TeacherOutputs(
        indices=np.int32(indices),
        logits=np.float32(np.take_along_axis(shifted, indices, -1)),
        log_normalizers={temperature: np.float32(log_z)},
    )


def outputs(s, teacher, targets=None):
    s = jnp.asarray(s, jnp.float32)
    if targets is None:
        targets = np.zeros(s.shape[:-1])
    batch = {"targets": jnp.asarray(targets, jnp.int32)}
    return losses.FullOutputs(batch=batch, logits=s, teacher=teacher)


@functools.cache
def compiled(these, slopes):
    """Values of several losses at once; with `slopes`, and their gradients."""

    def both(loss, s, teacher, y):
        def total(s):
            values = loss(outputs(s, teacher, y))
            return jnp.sum(values), values

        gradient, values = jax.grad(total, has_aux=True)(s)
        return values, gradient

    def alone(loss, s, teacher, y):
        return loss(outputs(s, teacher, y))

    each = both if slopes else alone
    return jax.jit(
        lambda *inputs: [each(loss, *inputs) for loss in these],
        compiler_options={"xla_backend_optimization_level": 0},  # half the time
    )


def run(these, s, teacher, targets, *, slopes):
    targets = np.zeros(np.shape(s)[:-1]) if targets is None else targets
    inputs = np.float32(s), teacher, np.int32(targets)
    results = jax.device_get(compiled(tuple(these), slopes)(*inputs))
    return jax.tree.map(np.float64, results)


def values_and_gradients(these, s, teacher, targets=None):
    return run(these, s, teacher, targets, slopes=True)


def value(loss, s, teacher, targets=None):
    return run([loss], s, teacher, targets, slopes=False)[0]


def gradient(loss, s, teacher, targets=None):
    return values_and_gradients([loss], s, teacher, targets)[0][1]


def whole(t):
    return losses.TeacherOutputs(logits=np.float32(t))


def over(convention, these=BY_NAME):
    """Those of the divergences, by name, that read entries by a convention."""
    return {
        name: dataclasses.replace(these[name], sparse=convention)
        for name in these
        if not refuses(these[name], convention)
    }


def refuses(loss, convention):
    infinite = convention in ("renormalize_teacher", "residual_to_target")
    return (infinite and loss.beside_zero == "infinite") or (
        convention not in loss.conventions
    )


def by_hand(loss, target=0):
    """p = 1/2, 1/4, 1/8, 1/8, of which two are stored; q is uniform."""
    t = np.log([[1 / 2, 1 / 4, 1 / 8, 1 / 8]])
    inputs = np.zeros((1, 4)), best(t, 2), [target]
    every = [losses.ForwardKL(sparse=convention) for convention in OVER_ENTRIES]
    return float(run(every, *inputs, slopes=False)[every.index(loss)][0])


def test_conventions_by_hand():
    log = math.log
    k2 = 1 / 2 * log(2) + 1 / 4 * log(1)
    tail = 1 / 4 * log(1 / 2)
    renormalised = 2 / 3 * log(2 / 3) + 1 / 3 * log(1 / 3)
    expected = {
        "truncate": k2 - (3 / 4 - 1 / 2),
        "tail_bucket": k2 + tail,
        "renormalize_teacher": renormalised + log(4),
        "renormalize_both": renormalised + log(2),
    }
    for convention, value_by_hand in expected.items():
        actual = by_hand(losses.ForwardKL(sparse=convention))
        np.testing.assert_allclose(actual, value_by_hand, rtol=1e-5)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (0, 3 / 4 * math.log(3) + 1 / 4 * math.log(1)),
        (1, 1 / 2 * math.log(2) + 1 / 2 * math.log(2)),
        (3, 1 / 2 * math.log(2) + 1 / 4 * math.log(1) + 1 / 4 * math.log(1)),
    ],
)
def test_the_residual_goes_to_the_target_stored_or_not(target, expected):
    actual = by_hand(losses.ForwardKL(sparse="residual_to_target"), target)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@every_convention
def test_all_entries_stored_is_the_whole_loss(convention):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY), scale=2.0)
    targets = np.arange(TOKENS)
    named = over(convention)
    actual = values_and_gradients(named.values(), s, best(t, VOCABULARY), targets)
    every = values_and_gradients(BY_NAME.values(), s, whole(t))
    expected = dict(zip(BY_NAME, every, strict=True))
    for name, stored in zip(named, actual, strict=True):
        full = expected[name]
        near = functools.partial(np.testing.assert_allclose, err_msg=name)
        near(stored[0], full[0], rtol=2e-5, atol=2e-6)
        near(stored[1], full[1], rtol=2e-4, atol=3e-6)


@examples
@hypothesis.given(logits)
def test_a_tail_bucket_grows_with_k_up_to_the_whole(logits):
    """Up to float32: an error of 1e-7 in the mass of a small rest shows in its log."""
    t, s = logits
    these = [x for x in BY_NAME.values() if not isinstance(x, losses.AdaptiveKL)]
    teachers = [*(best(t, k) for k in (1, 5)), whole(t)]
    actual = np.array([run(these, s, x, None, slopes=False) for x in teachers])
    assert np.all(actual > -3e-6)
    assert np.all(np.diff(actual, axis=0) > -1e-4 - 1e-3 * actual[-1])


def test_the_tail_bucket_is_never_in_the_head():
    """Two are stored, and the rest has 0.55: a head of 0.2 + 0.1, a tail of 0.1."""
    t = np.log([[0.25, 0.2, 0.19, 0.18, 0.18]])
    s = np.log([[0.45, 0.1, 0.15, 0.15, 0.15]])
    p, q = np.array([0.25, 0.2, 0.55]), np.array([0.45, 0.1, 0.45])
    expected = 3 / 4 * np.sum(p * np.log(p / q)) + 1 / 4 * np.sum(q * np.log(q / p))
    actual = value(losses.AdaptiveKL(), s, best(t, 2))
    np.testing.assert_allclose(actual, [expected], rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_records_are_read_at_the_temperature_of_the_loss(temperature):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    np.testing.assert_allclose(
        value(
            losses.ReverseKL(temperature=temperature),
            s,
            best(t, 3, temperature=temperature),
        ),
        value(losses.ReverseKL(), s / temperature, best(t / temperature, 3)),
        rtol=1e-5,
    )


def draws(p, n, *, seed, temperature=1.0):
    """n ids drawn from each row of p, and its entropy."""
    rng = np.random.default_rng(seed)
    thresholds = rng.random((len(p), n, 1))
    indices = np.sum(np.cumsum(p, -1)[:, None, :-1] < thresholds, -1)
    entropy = -np.sum(p * np.log(p), -1)
    return losses.TeacherOutputs(
        indices=np.int32(indices),
        entropies={temperature: np.float32(entropy)},
    )


def test_draws_estimate_forward_kl_without_bias():
    """Mean error within four standard errors; its size falls as N^-1/2."""
    t, s = np.random.default_rng(0).normal(size=(2, VOCABULARY), scale=1.5)
    p, q = softmax64(t), softmax64(s)
    tokens = 2000
    deviation = np.sqrt(np.sum(p * np.log(q) ** 2) - np.sum(p * np.log(q)) ** 2)
    sizes = {}
    for n in (4, 64):
        teacher = draws(np.tile(p, (tokens, 1)), n, seed=n)
        actual = value(
            losses.ForwardKL(sparse="sampled"), np.tile(s, (tokens, 1)), teacher
        )
        error = actual - np.sum(p * np.log(p / q))
        assert abs(error.mean()) < 4 * deviation / math.sqrt(n * tokens)
        sizes[n] = np.sqrt(np.mean(error**2))
        np.testing.assert_allclose(sizes[n], deviation / math.sqrt(n), rtol=0.1)
    np.testing.assert_allclose(sizes[4] / sizes[64], 4.0, rtol=0.1)


def test_the_gradient_of_draws_is_the_student_minus_their_frequencies():
    s = np.random.default_rng(0).normal(size=(1, VOCABULARY))
    teacher = losses.TeacherOutputs(
        indices=jnp.array([[2, 2, 5, 0]], jnp.int32),
        entropies={2.0: jnp.zeros((1,))},
    )
    actual = gradient(losses.ForwardKL(sparse="sampled", temperature=2.0), s, teacher)
    frequencies = np.bincount([2, 2, 5, 0], minlength=VOCABULARY) / 4
    np.testing.assert_allclose(actual[0], (softmax64(s / 2)[0] - frequencies) / 2, 1e-5)


@every_convention
def test_impossible_entries_and_extreme_logits_stay_finite(convention):
    t, s = np.random.default_rng(0).normal(size=(2, 6, VOCABULARY), scale=2.0)
    t[0, 1:] = -np.inf  # fewer possible entries than are stored
    s[1, np.argmax(t[1])] = -np.inf
    s[2, np.argsort(-t[2])[:3]] = -np.inf  # all that is stored
    t[3], s[3] = np.sign(t[3]) * 1e4, -np.sign(t[3]) * 1e4
    with np.errstate(over="ignore"):
        teacher = best(t, 3)
    log_z = np.array(teacher.log_normalizers[1.0])
    log_z[3] = np.logaddexp.reduce(t[3] - t[3].mean() + 5.0)
    teacher = dataclasses.replace(teacher, log_normalizers={1.0: log_z})
    # Read, a target outside of the vocabulary is NaN: see core/loss_test.py.
    unread = [] if convention == "residual_to_target" else [np.full(6, -100)]
    for targets in (np.arange(6), *unread):
        named = over(convention)
        actual = values_and_gradients(named.values(), s, teacher, targets)
        for name, (values, slopes) in zip(named, actual, strict=True):
            assert np.all(np.isfinite(values)), name
            assert np.all(np.isfinite(slopes)), name


@pytest.mark.parametrize("convention", ["tail_bucket", "residual_to_target"])
def test_masked_tokens_without_a_record_give_nothing(convention):
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))
    mask = np.arange(TOKENS) % 2 == 0
    s, targets = np.where(mask[:, None], s, np.nan), np.where(mask, 1, -100)
    teacher = jax.tree.map(np.array, best(t, 3))
    for x in (teacher.logits, teacher.log_normalizers[1.0]):
        x[1::2] = np.nan
    names = ("forward_kl", "reverse_kl", "jensen_shannon", "renyi_divergence")
    chosen = over(convention, {name: BY_NAME[name] for name in names})
    terms = [
        losses.LossTerm(name=name, loss=loss, mask=lambda batch: jnp.asarray(mask))
        for name, loss in chosen.items()
    ]

    @jax.jit
    @jax.jacrev
    def slopes(s):
        actual = evaluate(terms, outputs(s, teacher, targets))
        return {name: average.total for name, average in actual.items()}

    for name, slope in slopes(jnp.asarray(s, jnp.float32)).items():
        assert not np.any(slope[1::2]), name
        assert np.all(np.isfinite(slope)) and np.any(slope[::2]), name


def shapes_in(jaxpr):
    """The shapes of all that a jaxpr computes, nested ones too."""
    for equation in jaxpr.eqns:
        yield from (x.aval.shape for x in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from shapes_in(inner)


@every_convention
def test_beyond_log_normalisers_a_block_costs_its_entries(convention):
    """A rest costs a second one, of what is outside of the entries."""
    width, k = 1000, 3
    teacher = losses.TeacherOutputs(
        indices=jnp.zeros((5, k), jnp.int32),
        logits=jnp.zeros((5, k)),
        log_normalizers={1.0: jnp.zeros(5)},
    )

    def forward(this, s, log_z):
        inputs = outputs(s, teacher)
        inputs._log_normalizers._known[1.0] = inputs.logits, log_z
        return this(inputs)

    s = jnp.zeros((5, width))
    for name, this in over(convention).items():
        traced = jax.make_jaxpr(functools.partial(forward, this))
        jaxpr = traced(s, jnp.zeros(5)).jaxpr
        wide = [shape for shape in shapes_in(jaxpr) if width in shape]
        rest = convention == "tail_bucket" or (
            convention not in ("truncate", "renormalize_both")
            and this.beside_zero == "finite"
        )
        assert bool(wide) == rest, name
        narrow = [math.prod(x) for x in shapes_in(jaxpr) if width not in x]
        assert max(narrow, default=0) <= 5 * 2 * (k + 2), name
    teacher = losses.TeacherOutputs(logits=s)
    wide = jax.make_jaxpr(lambda s: losses.ForwardKL()(outputs(s, teacher)))(s).jaxpr
    assert (5, width) in set(shapes_in(wide))


def test_losses_of_one_temperature_share_the_log_normaliser():
    t, s = np.random.default_rng(0).normal(size=(2, TOKENS, VOCABULARY))

    def trace(s):
        inputs = outputs(s, best(t, 3))
        losses.ForwardKL()(inputs)
        shared = inputs.log_normalizer()
        losses.ReverseKL()(inputs)
        losses.ForwardKL()(dataclasses.replace(inputs, teacher=whole(t)))
        assert inputs._log_normalizers._known.keys() == {1.0}
        assert inputs.log_normalizer() is shared

    jax.eval_shape(trace, np.float32(s))


@pytest.mark.parametrize(
    ("loss", "teacher", "message"),
    [
        (losses.ForwardKL(), "draws", "the teacher gives draws"),
        (losses.ForwardKL(sparse="sampled"), "best", "'sampled' wants draws"),
        (losses.ForwardKL(temperature=2.0), "best", "not stored; stored: 1.0"),
        (
            losses.ForwardKL(sparse="sampled", temperature=2.0),
            "draws",
            "entropy at temperature 2.0; stored: 1.0",
        ),
        (losses.LogitMSE(), "best", "whole logits"),
        (losses.LogitMSE(), "draws", "whole logits"),
    ],
)
def test_a_teacher_of_another_kind_is_refused(loss, teacher, message):
    t = np.random.default_rng(0).normal(size=(TOKENS, VOCABULARY))
    teacher_outputs = (
        best(t, 3) if teacher == "best" else draws(softmax64(t), 3, seed=0)
    )
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda s: loss(outputs(s, teacher_outputs)), np.float32(t))


def test_an_id_beyond_the_student_is_not_hidden():
    teacher = losses.TeacherOutputs(
        indices=jnp.array([[VOCABULARY]], jnp.int32),
        logits=jnp.zeros((1, 1)),
        log_normalizers={1.0: jnp.ones(1)},
    )
    assert np.isnan(value(losses.ForwardKL(), np.zeros((1, VOCABULARY)), teacher))
