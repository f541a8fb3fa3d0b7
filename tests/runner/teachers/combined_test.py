"""Formulas of combined teachers, of logits that a member has at -inf."""

import jax.numpy as jnp
import numpy as np

from runner.teachers import (
    EMATeacher,
    EnsembleTeacher,
    FusedTeacher,
    MostConfidentTeacher,
)

INF = np.inf
ONE = [[0.0, 1.0, -INF, 2.0]]
OTHER = [[3.0, -INF, -INF, 0.5]]


def test_what_is_impossible_to_expert_and_antiexpert_stays_with_the_base():
    teacher = EMATeacher()
    fused = FusedTeacher(base=teacher, expert=teacher, antiexpert=teacher, scale=2.0)
    base = [[1.0, 1.0, 1.0, -INF]]
    result = np.asarray(fused.combine([jnp.asarray(x) for x in (base, ONE, OTHER)]))
    np.testing.assert_allclose(result[0, [0, 2]], [1.0 + 2.0 * (0.0 - 3.0), 1.0])
    assert result[0, 1] > 1e5 and result[0, 3] == -INF


def test_an_ensemble_of_teachers_with_impossible_entries_is_their_mixture():
    members = [jnp.asarray(x) for x in (ONE, OTHER)]
    teachers = EnsembleTeacher(teachers=[EMATeacher()] * 2, weights=[3.0, 1.0])
    p, q = (np.exp(x) / np.sum(np.exp(x)) for x in (np.array(ONE), np.array(OTHER)))
    mixture = np.exp(np.asarray(teachers.combine(members)))
    np.testing.assert_allclose(mixture, 0.75 * p + 0.25 * q, rtol=1e-6)


def test_the_most_confident_of_teachers_teaches_each_token():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (3, 20, 5)).astype(np.float32)
    logits[1, :, 2] = -INF
    p = np.exp(logits.astype(np.float64))
    best = np.max(p / p.sum(-1, keepdims=True), axis=-1)
    expected = logits[np.argmax(best, axis=0), np.arange(20)]
    teachers = MostConfidentTeacher(teachers=[EMATeacher()] * 3)
    actual = teachers.combine([jnp.asarray(x) for x in logits])
    np.testing.assert_array_equal(actual, expected)
