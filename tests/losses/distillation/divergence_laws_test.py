"""Laws of every divergence, over every form of a teacher's outputs.

Least at the teacher: where the student is the teacher (as a convention completes it),
the gradient is zero and no other student has a lower value. Disjoint supports: the
value is the published maximum. All in one compiled program, beside float64 SciPy.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import kl_div, logsumexp, rel_entr

import losses

VOCABULARY, BEST, TARGET = 8, 4, 6
CONVENTIONS = tuple(x for x in get_args(losses.SparseMode) if x != "sampled")
TEACHERS = ("full", *CONVENTIONS)


class Law(NamedTuple):
    """A divergence in float64, and its value for disjoint supports.

    Attributes:
      loss: the divergence.
      of: its value from p, q and the elementwise KL.
      most: None where it is infinite.
      powers: whether it grows as p/q, so that an error in nats is a relative one.
    """

    loss: losses.Divergence
    of: Callable[..., float]
    most: float | None = None
    powers: bool = False


def skewed(share):
    def skew(a, b, kl):
        return kl(a, share * a + (1 - share) * b).sum()

    return skew


def jensen_shannon(beta):
    def value(p, q, kl):
        m = beta * p + (1 - beta) * q
        return beta * kl(p, m).sum() + (1 - beta) * kl(q, m).sum()

    return value


def alpha(order):
    def value(p, q, kl):
        del kl
        parts = order * p + (1 - order) * q - p**order * q ** (1 - order)
        return parts.sum() / (order * (1 - order))

    return value


def renyi(order):
    def value(p, q, kl):
        del kl
        powers = p**order * np.where(p > 0, q ** (1 - order), 0.0)
        return np.log(powers.sum()) / (order - 1)

    return value


def adaptive(p, q, kl):
    """With the head of `AdaptiveKL`; a rest comes last, whatever its mass."""
    order = np.argsort(-p[:BEST], kind="stable")
    order = np.append(order, np.arange(BEST, len(p)))
    if len(p) > BEST + 2:  # the whole vocabulary
        order = np.argsort(-p, kind="stable")
    gap = np.abs(p - q)[order]
    head = (np.cumsum(p[order]) <= 0.5) | (np.arange(len(p)) == 0)
    weight = gap[head].sum() / max(gap.sum(), 1e-30)
    return weight * kl(p, q).sum() + (1 - weight) * kl(q, p).sum()


LAWS = [
    Law(losses.ForwardKL(), lambda p, q, kl: kl(p, q).sum()),
    Law(losses.ReverseKL(), lambda p, q, kl: kl(q, p).sum()),
    Law(
        losses.SymmetricKL(reverse_weight=0.3),
        lambda p, q, kl: 0.7 * kl(p, q).sum() + 0.3 * kl(q, p).sum(),
    ),
    Law(losses.SymmetricKL(reverse_weight=0.0), lambda p, q, kl: kl(p, q).sum()),
    Law(losses.JensenShannon(), jensen_shannon(0.5), np.log(2)),
    Law(
        losses.JensenShannon(beta=0.3),
        jensen_shannon(0.3),
        -0.3 * np.log(0.3) - 0.7 * np.log(0.7),
    ),
    Law(losses.SkewForwardKL(), skewed(0.1), np.log(10)),
    Law(losses.SkewForwardKL(skew=0.0), skewed(0.0)),
    Law(losses.SkewReverseKL(), lambda p, q, kl: skewed(0.1)(q, p, kl), np.log(10)),
    Law(losses.SkewReverseKL(skew=0.0), lambda p, q, kl: kl(q, p).sum()),
    Law(losses.TotalVariation(), lambda p, q, kl: np.abs(p - q).sum() / 2, 1.0),
    Law(losses.AlphaDivergence(order=0.0), lambda p, q, kl: kl_div(q, p).sum()),
    Law(losses.AlphaDivergence(order=0.3), alpha(0.3), 1 / 0.21),
    Law(losses.AlphaDivergence(), alpha(0.5), 4.0),
    Law(losses.AlphaDivergence(order=2.0), alpha(2.0), powers=True),
    Law(losses.AlphaDivergence(order=-1.0), alpha(-1.0), powers=True),
    Law(losses.AlphaDivergence(order=1.0), lambda p, q, kl: kl_div(p, q).sum()),
    Law(losses.AlphaBetaDivergence(alpha=0.3, beta=0.7), alpha(0.3), 1 / 0.21),
    Law(losses.RenyiDivergence(), renyi(0.5)),
    Law(losses.RenyiDivergence(order=1.0), lambda p, q, kl: rel_entr(p, q).sum()),
    Law(losses.RenyiDivergence(order=2.0), renyi(2.0)),
    Law(losses.AdaptiveKL(), adaptive),
    Law(losses.ToDi(), lambda p, q, kl: kl(p, q).sum() + kl(q, p).sum()),
]
INFINITE = ["renormalize_teacher", "residual_to_target"]
REFUSED = {
    "ReverseKL()": INFINITE,
    "SymmetricKL(reverse_weight=0.3)": INFINITE,
    "SkewReverseKL(skew=0.0)": INFINITE,
    "AlphaDivergence(order=0.0)": INFINITE,
    "AlphaDivergence(order=-1.0)": INFINITE,
    "AdaptiveKL()": INFINITE,
    "ToDi()": INFINITE,
    "RenyiDivergence()": ["truncate"],
    "RenyiDivergence(order=1.0)": ["truncate"],
    "RenyiDivergence(order=2.0)": ["truncate"],
}
RANKINGS = (losses.NormalizedKD, losses.PlackettLuce)
"""Published losses that want more of the likely entries than the teacher gives them."""


def label(loss):
    values = {field: getattr(loss, field.name) for field in dataclasses.fields(loss)}
    changed = [f"{f.name}={x}" for f, x in values.items() if x != f.default]
    return f"{type(loss).__name__}({', '.join(changed)})"


def pairs():
    """Every law with every form of a teacher that its divergence reads."""
    for law in LAWS:
        yield law, "full"
        refused = REFUSED.get(label(law.loss), [])
        for convention in CONVENTIONS:
            if convention not in refused:
                loss = dataclasses.replace(law.loss, sparse=convention)
                yield law._replace(loss=loss), convention


def completed(log_p, log_q, form):
    """Both lists of one token in float64, and the elementwise KL, by convention."""
    best = np.argsort(-log_p, kind="stable")[:BEST]
    p, q = np.exp(log_p), np.exp(log_q)
    outside = np.delete(np.arange(VOCABULARY), best)
    a, b = p[best], q[best]
    match form:
        case "full":
            return p, q, rel_entr
        case "truncate":
            return a, b, kl_div
        case "renormalize_both":
            return a / a.sum(), np.exp(log_q[best] - logsumexp(log_q[best])), rel_entr
        case "tail_bucket":
            a, b = np.append(a, p[outside].sum()), np.append(b, q[outside].sum())
        case "renormalize_teacher":
            a, b = np.append(a / a.sum(), 0.0), np.append(b, q[outside].sum())
        case "residual_to_target":
            assert TARGET in outside
            others = outside[outside != TARGET]
            a = np.concatenate([a, [p[outside].sum(), 0.0]])
            b = np.concatenate([b, [q[TARGET], q[others].sum()]])
    return a, b, rel_entr


def teacher_of(log_p, form):
    """What records in float32 hold of the teacher."""
    t = jnp.asarray(log_p, jnp.float32)
    if form == "full":
        return losses.TeacherOutputs(logits=t)
    indices = np.argsort(-log_p, axis=-1, kind="stable")[..., :BEST]
    return losses.TeacherOutputs(
        indices=jnp.asarray(indices, jnp.int32),
        logits=jnp.asarray(np.float32(np.take_along_axis(log_p, indices, -1))),
        log_rests={1.0: log_mass_outside(log_p, indices)},
    )


def log_mass_outside(log_p, indices):
    others = log_p.copy()
    np.put_along_axis(others, indices, -np.inf, axis=-1)
    return jnp.asarray(logsumexp(others, axis=-1), jnp.float32)


@functools.cache
def program():
    """Jitted `(log p, log q by form) -> (values, gradients)` of all pairs at once."""

    def all_of(teachers, students):
        results = []
        for law, form in pairs():

            def total(s, law=law, form=form):
                batch = {"targets": jnp.full(s.shape[:-1], TARGET, jnp.int32)}
                values = law.loss(
                    losses.FullOutputs(batch=batch, logits=s, teacher=teachers[form])
                )
                return jnp.sum(values), values

            gradient, values = jax.grad(total, has_aux=True)(students[form])
            results.append((values, gradient))
        return results

    return jax.jit(all_of, compiler_options={"xla_backend_optimization_level": 0})


def evaluated(log_p, log_q):
    """Values and gradients of all pairs, of tokens `[n v]`; students by form or one."""
    if not isinstance(log_q, dict):
        log_q = dict.fromkeys(TEACHERS, log_q)
    teachers = {form: teacher_of(log_p, form) for form in TEACHERS}
    students = {form: jnp.asarray(x, jnp.float32) for form, x in log_q.items()}
    results = program()(teachers, students)
    for (law, form), (values, gradient) in zip(pairs(), results, strict=True):
        yield f"{label(law.loss)} {form}", law, form, np.asarray(values), gradient


def log_softmax(x):
    return x - logsumexp(x, axis=-1, keepdims=True)


def named_teacher(log_p, form):
    """Whole distributions that a convention completes the entries to, in logs."""
    if form not in INFINITE:
        return log_p
    ranks = np.argsort(np.argsort(-log_p, axis=-1, kind="stable"), axis=-1)
    p = np.where(ranks < BEST, np.exp(log_p), 0.0)
    if form == "residual_to_target":
        p[..., TARGET] += 1 - p.sum(-1)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(p / p.sum(-1, keepdims=True)), -60.0)


TOKENS = 16


@functools.cache
def rows():
    """Teachers `[n v]`, whose best entries never hold the target; and some noise."""
    random = np.random.default_rng(0)
    t = random.normal(size=(TOKENS, VOCABULARY), scale=1.5)
    t[:, TARGET] = t.min(-1) - 0.3
    size = np.logspace(-2, 0.7, TOKENS)[:, None]
    return log_softmax(t), random.normal(size=(TOKENS, VOCABULARY)) * size


def test_every_divergence_is_here():
    public = [getattr(losses, name) for name in losses.__all__]
    kinds = {
        x for x in public if isinstance(x, type) and issubclass(x, losses.Divergence)
    }
    concrete = {x for x in kinds if not x.__abstractmethods__}
    targeted = {losses.DecoupledKD, *RANKINGS}
    assert concrete == {type(law.loss) for law in LAWS} | targeted


@pytest.mark.parametrize("law", LAWS, ids=lambda law: label(law.loss))
def test_a_convention_without_a_least_value_at_its_teacher_is_refused(law):
    refused = []
    for convention in CONVENTIONS:
        try:
            dataclasses.replace(law.loss, sparse=convention)
        except ValueError as error:
            name = type(law.loss).__name__
            assert name in str(error) and repr(convention) in str(error)
            assert "'tail_bucket'" in str(error) and "\n" not in str(error)
            refused.append(convention)
    assert refused == REFUSED.get(label(law.loss), [])


# dear: compiles the program of all pairs, which the tests below run again
def test_every_pair_is_that_of_float64():
    log_p, noise = rows()
    log_q = log_softmax(log_p + noise)
    for name, law, form, values, _ in evaluated(log_p, log_q):
        expected = [
            law.of(*completed(p, q, form)) for p, q in zip(log_p, log_q, strict=True)
        ]
        np.testing.assert_allclose(values, expected, rtol=2e-4, atol=3e-6, err_msg=name)


def test_every_pair_is_least_at_its_teacher():
    log_p, noise = rows()
    at = {form: named_teacher(log_p, form) for form in TEACHERS}
    near = {form: x + noise for form, x in at.items()}
    results = zip(evaluated(log_p, at), evaluated(log_p, near), strict=True)
    for (name, law, _, least, gradient), (_, _, _, others, _) in results:
        np.testing.assert_allclose(least, 0.0, atol=1e-5, err_msg=name)
        if not isinstance(law.loss, losses.TotalVariation):  # has a kink there
            np.testing.assert_allclose(gradient, 0.0, atol=2e-6, err_msg=name)
        assert np.all(others > least - 1e-6), name
        assert np.all(others[TOKENS // 2 :] > 1e-4), name


def test_rows_far_below_zero_are_what_they_are_near_it():
    """To the steps of a log-normaliser in float32 there, 2⁻⁵ nats; never NaN."""
    random = np.random.default_rng(0)
    t, s = np.round(random.normal(size=(2, TOKENS, VOCABULARY), scale=12.0)) / 8
    near, far = evaluated(t, s), evaluated(t - 2.0**18, s - 2.0**18)
    for (name, law, _, values, gradient), (*_, low, low_gradient) in zip(
        near, far, strict=True
    ):
        size = np.maximum(values, 1.0) if law.powers else np.ones_like(values)
        np.testing.assert_allclose(low / size, values / size, atol=2**-4, err_msg=name)
        low_gradient, gradient = low_gradient / size[:, None], gradient / size[:, None]
        np.testing.assert_allclose(low_gradient, gradient, atol=2**-4, err_msg=name)


def one_sided(*places):
    x = np.full(VOCABULARY, -60.0)
    x[list(places)] = np.log(np.arange(1, len(places) + 1))
    return log_softmax(x)


@pytest.mark.parametrize(
    ("students", "blind"),
    [((2, 3), ()), ((5, 7), ("truncate", "renormalize_both"))],
    ids=["among the entries", "outside of them"],
)
def test_disjoint_supports_give_the_most(students, blind):
    """`blind` conventions do not say that what is outside of the entries counts."""
    log_p, log_q = one_sided(0, 1), one_sided(*students)
    log_p[2:4] += 1.0  # stored, beside the two that have all the mass
    both = [np.tile(x, (TOKENS, 1)) for x in (log_p, log_q)]
    for name, law, form, values, _ in evaluated(*both):
        if form in blind:
            continue
        if law.most is None:
            assert values[0] > 8.0, name
        else:
            np.testing.assert_allclose(values[0], law.most, rtol=1e-5, err_msg=name)
