"""Formulas of teachers whose coefficient is another at each token."""

import jax.numpy as jnp
import numpy as np
import pytest

import losses
from runner.teachers import (
    ContrastedTeacher,
    DynamicTeacher,
    EMATeacher,
    FusedTeacher,
    LoadedTeacher,
    TeacherTrunk,
)
from runner.teachers.combined import LoadedCombined


class Given(LoadedTeacher):
    """A teacher of these logits, which offers nothing else."""

    def __init__(self, logits):
        self.logits = jnp.asarray(logits)

    def trunk(self, frozen, ema, batch, *, capture, logits):
        assert not capture
        outputs = losses.TeacherOutputs(logits=self.logits)
        return TeacherTrunk(tokens={}, head_params={}, outputs=lambda *_: outputs)

    def describe(self):
        return {}


ONE = EMATeacher()
RANDOM = np.random.default_rng(0)
BASE, EXPERT, ANTI = RANDOM.normal(size=(3, 4, 6), scale=1.5).astype(np.float32)


def dynamic(base, expert, antiexpert, **fields):
    teacher = DynamicTeacher(base=ONE, expert=ONE, antiexpert=ONE, **fields)
    return np.asarray(teacher.combine([base, expert, antiexpert]))


def log_softmax64(x):
    x = np.float64(x)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def kl64(a, b):
    return np.sum(np.exp(a) * (a - b), axis=-1)


def test_the_dynamic_coefficient_is_that_of_a_search_in_float64():
    log_base, log_expert, log_anti = map(log_softmax64, (BASE, EXPERT, ANTI))
    costs, grid = [], np.arange(21) / 10
    for a in grid:
        fused = log_softmax64(BASE + a * (EXPERT - ANTI))
        costs.append(
            (kl64(fused, log_base) - kl64(log_expert, log_anti)) ** 2
            + (kl64(log_base, fused) - kl64(log_anti, log_expert)) ** 2
        )
    a = grid[np.argmin(costs, axis=0)]
    assert len(set(a)) > 1
    expected = BASE + a[:, None] * (EXPERT - ANTI)
    np.testing.assert_allclose(dynamic(BASE, EXPERT, ANTI), expected, atol=1e-5)


def test_of_one_base_the_dynamic_teacher_is_the_expert():
    np.testing.assert_allclose(dynamic(ANTI, EXPERT, ANTI), EXPERT, atol=1e-5)
    np.testing.assert_array_equal(dynamic(BASE, EXPERT, EXPERT), BASE)


@pytest.mark.slow  # a search of its own; the one of one expert is fast
def test_of_several_experts_one_acts_at_a_token_by_the_sum_over_all():
    other = np.random.default_rng(6).normal(size=EXPERT.shape).astype(np.float32)
    log_base, log_anti = log_softmax64(BASE), log_softmax64(ANTI)
    moved = [log_softmax64(x) for x in (EXPERT, other)]
    steps = [
        a * (np.float64(x) - ANTI) for x in (EXPERT, other) for a in np.arange(21) / 10
    ]
    costs = []
    for step in steps:
        fused = log_softmax64(BASE + step)
        costs.append(
            sum(
                (kl64(fused, log_base) - kl64(x, log_anti)) ** 2
                + (kl64(log_base, fused) - kl64(log_anti, x)) ** 2
                for x in moved
            )
        )
    chosen = np.argmin(costs, axis=0)
    assert {0, 1} == set(chosen // 21)
    teacher = DynamicTeacher(base=ONE, expert=ONE, antiexpert=ONE, experts=(ONE,))
    expected = BASE + np.stack(steps)[chosen, np.arange(len(BASE))]
    actual = teacher.combine([BASE, EXPERT, ANTI, other])
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_constant_in_a_member_moves_no_probability():
    before = log_softmax64(dynamic(BASE, EXPERT, ANTI))
    after = log_softmax64(dynamic(BASE + 3.0, EXPERT - 2.0, ANTI + 1.0))
    np.testing.assert_allclose(after, before, atol=1e-5)


def contrasted(expert, reverse, **fields):
    teacher = ContrastedTeacher(expert=ONE, reverse=ONE, **fields)
    return np.asarray(teacher.combine([expert, reverse]))


def test_the_contrast_grows_with_the_distance_of_the_two():
    p, q = (np.exp(log_softmax64(x)) for x in (EXPERT, ANTI))
    a = 10.0 * 0.5 * np.abs(p - q).sum(-1, keepdims=True) + 1e-3
    expected = EXPERT + a * (EXPERT - ANTI)
    np.testing.assert_allclose(contrasted(EXPERT, ANTI), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(contrasted(EXPERT, EXPERT), EXPERT)
    none = contrasted(EXPERT, ANTI, strength=0.0, least=0.0)
    np.testing.assert_array_equal(none, EXPERT)

    # What losses read of it, through the teacher that is loaded.
    node = ContrastedTeacher(expert=ONE, reverse=ONE)
    loaded = LoadedCombined(
        {"expert": Given(EXPERT), "reverse": Given(ANTI)},
        node.combine,
        node.describe(),
        entrywise=node.entrywise,
        beside=node.beside,
    )
    frozen = {"expert": {}, "reverse": {}}
    capture = frozenset({"contrast"})
    assert loaded.offers() == capture
    trunk = loaded.trunk(frozen, {}, {}, capture=capture, logits=True)
    teacher = trunk.outputs(trunk.head_params, trunk.tokens, {})
    weight = losses.TeacherContrast(scale=0.1)
    outputs = losses.FullOutputs(batch={}, logits=jnp.asarray(ANTI), teacher=teacher)
    np.testing.assert_allclose(weight(outputs), 0.1 / a[:, 0], rtol=1e-5)


def test_with_a_fixed_coefficient_it_is_the_fused_teacher():
    fused = FusedTeacher(base=ONE, expert=ONE, antiexpert=ONE, scale=0.5)
    np.testing.assert_allclose(
        contrasted(EXPERT, ANTI, strength=0.0, least=0.5),
        np.asarray(fused.combine([EXPERT, EXPERT, ANTI])),
        rtol=1e-6,
    )


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="most must be positive, got 0"):
        DynamicTeacher(base=ONE, expert=ONE, antiexpert=ONE, most=0.0)
    with pytest.raises(ValueError, match="strength must be at least 0, got -1"):
        ContrastedTeacher(expert=ONE, reverse=ONE, strength=-1.0)
