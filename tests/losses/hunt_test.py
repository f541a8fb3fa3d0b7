"""Awkward rows of logits, drawn by seed, against float64 formulas.

    python -m pytest -m slow tests/losses/hunt_test.py

Each row is a situation: far apart, equal, tied, impossible, a constant far away, sure,
disjoint, of fewer bits. The formulas are in `reference.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import functional
from tests.losses import reference

pytestmark = pytest.mark.slow

CONVENTIONS = [x for x in losses.Divergence.conventions if x != "sampled"]


def awkward_rows(vocabulary, *, seed):
    """Return logits of student and teacher, float32, two rows a kind."""
    rng = np.random.default_rng(seed)
    draw = rng.normal
    students, teachers = [], []
    for _ in range(2):
        s, t = draw(size=(2, 14, vocabulary))
        s[0], t[0] = 30 * s[0], 30 * t[0]  # far apart
        s[1] = 2.5  # equal
        s[2], t[2] = np.round(s[2]), np.round(t[2])  # tied
        t[3, rng.integers(vocabulary)] += 40  # sure
        s[3, rng.integers(vocabulary)] += 15
        if vocabulary > 2:  # impossible to one side, or to both
            s[4, 0], t[4, :2] = -np.inf, -np.inf
        s[5], t[5] = s[5] + 300, t[5] - 200  # a constant away
        s[6] = t[6] + 1e-3 * s[6]  # close
        s[7] = t[7]  # the same
        s[8, : vocabulary // 2] -= 60  # disjoint
        t[8, vocabulary // 2 :] -= 60
        s[9, 1:] -= 25  # one entry has all but nothing
        t[9, 1:] -= 25
        s[10], t[10] = 1e-2 * s[10], 1e-2 * t[10]  # flat
        s[11] *= 10  # a sure student, an unsure teacher
        t[12] *= 10  # the other way round
        students.append(s)
        teachers.append(t)
    return (np.concatenate(x).astype(np.float32) for x in (students, teachers))


def check(actual, expected, name):
    """Hold values to float64, within what float32 logits of a few hundred tell."""
    actual = np.asarray(actual)
    assert actual.dtype == np.float32, name
    np.testing.assert_allclose(actual, expected, rtol=5e-5, atol=5e-4, err_msg=name)


def of_logits(temperature, y):
    """Return, by function: its arguments, and its formula of s and t."""
    T = temperature

    def divergence(formula):
        def of(s, t):
            p, q = (reference.log_probabilities(x, T) for x in (t, s))
            return formula(p, q, False)

        return of

    table = {
        name: ({"temperature": T} | formula.arguments, divergence(formula.value))
        for name, formula in reference.DIVERGENCES.items()
    }
    table["adaptive_kl"] = (
        {"temperature": T},
        divergence(lambda p, q, _: reference.adaptive_kl(p, q)),
    )
    for name in ("logit_mse", "binary_kl", "binary_kl_norm", "inter_class_correlation"):
        formula = getattr(reference, name)
        table[name] = {"temperature": T}, lambda s, t, f=formula: f(s, t, T)
    at = {"temperature": T, "targets": jnp.asarray(y, jnp.int32)}
    table["decoupled_kd"] = (
        at | {"non_target_weight": 8.0},
        divergence(lambda p, q, _: reference.decoupled_kd(p, q, y, 8.0)),
    )
    table["normalized_kd"] = (
        at | {"non_target_weight": 1.5},
        lambda s, t: reference.normalized_kd(s, t, y, T, 1.5),
    )
    table["plackett_luce"] = at, lambda s, t: reference.plackett_luce(s, t, y, T)
    return table


@pytest.mark.parametrize(
    ("vocabulary", "dtype", "temperature"),
    [
        (7, "float32", 2.5),
        (2, "float32", 0.5),
        (7, "bfloat16", 1.0),
        (7, "float16", 2.0),
    ],
)
def test_functions_of_whole_logits(vocabulary, dtype, temperature):
    s, t = (jnp.asarray(x).astype(dtype) for x in awkward_rows(vocabulary, seed=1))
    wide = [np.asarray(x.astype(jnp.float32), np.float64) for x in (s, t)]
    y = np.random.default_rng(2).integers(0, vocabulary, len(s))
    table = of_logits(temperature, y)

    @jax.jit
    def values(s, t):
        return {
            name: getattr(functional, name)(s, t, **arguments)
            for name, (arguments, _) in table.items()
        }

    for name, value in values(s, t).items():
        check(value, table[name][1](*wide), name)


@pytest.mark.parametrize("sparse", CONVENTIONS)
@pytest.mark.parametrize("best", [1, 3])
def test_classes_over_stored_entries(sparse, best):
    temperature = 2.0
    s, t = awkward_rows(7, seed=best)
    y = np.random.default_rng(3).integers(0, 7, len(s))
    ids = np.argsort(-t, axis=-1, kind="stable")[:, :best]
    whole = t.astype(np.float64) / temperature
    outside = np.ones(t.shape, bool)
    np.put_along_axis(outside, ids, False, axis=-1)
    log_rest = reference.log_sum_exp(np.where(outside, whole, -np.inf))
    teacher = losses.TeacherOutputs(
        indices=jnp.asarray(ids, jnp.int32),
        logits=jnp.asarray(np.take_along_axis(t, ids, axis=-1)),
        log_normalizers={
            temperature: jnp.asarray(reference.log_sum_exp(whole), jnp.float32)
        },
        log_rests={temperature: jnp.asarray(log_rest, jnp.float32)},
    )
    terms = {}
    for name, formula in reference.DIVERGENCES.items():
        try:
            terms[name] = getattr(losses, formula.of)(
                temperature=temperature, sparse=sparse, **formula.arguments
            )
        except ValueError:  # infinite under this convention, or none of its own
            continue

    @jax.jit
    def values(s, teacher):
        batch = {"targets": jnp.asarray(y, jnp.int32)}
        outputs = losses.FullOutputs(batch=batch, logits=s, teacher=teacher)
        return {name: loss(outputs) for name, loss in terms.items()}

    wide = s.astype(np.float64), t.astype(np.float64)
    entries = reference.over_entries(*wide, ids, y, temperature, sparse)
    for name, value in values(jnp.asarray(s), teacher).items():
        formula = reference.DIVERGENCES[name].value
        check(value, formula(entries.p, entries.q, entries.partial), name)
