"""Metrics as losses, groups and bags: published identities, and values by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import functional
from losses.core.batch_weights import BatchValues

RANDOM = np.random.default_rng(0)
TARGETS = np.array([1, 0, 1, 1, 0, 0, 0, 1], np.int32)


def hard(predicted):
    """Logits of a sure decision for id 1, or against it."""
    sure = np.where(predicted, 30.0, -30.0)
    return np.stack([-sure, sure], -1).astype(np.float32)


METRICS = {
    "accuracy": 5 / 8,
    "f_beta": 4 / 7,
    "balanced_accuracy": 5 / 8,
    "g_mean": (1 / 2 * 3 / 4) ** 0.5,
}
"""Of decisions that find 2 of 4 positives and 3 of 4 negatives of `TARGETS`."""


def test_of_sure_decisions_it_is_one_minus_the_metric():
    predicted = np.array([1, 0, 0, 1, 0, 1, 0, 0], bool)

    @jax.jit
    def values(logits):
        return {
            metric: functional.any_loss(logits, TARGETS, metric=metric)
            for metric in METRICS
        }

    for metric, value in values(hard(predicted)).items():
        np.testing.assert_allclose(value, 1 - METRICS[metric], atol=1e-6)


def test_without_amplification_f_beta_is_the_dice_loss_of_the_batch():
    logits = RANDOM.normal(size=(8, 2)).astype(np.float32)
    q = np.exp(logits[:, 1]) / np.exp(logits).sum(-1)
    expected = 1 - 5 * (q * TARGETS).sum() / (4 * TARGETS.sum() + q.sum())
    value = functional.any_loss(logits, TARGETS, sharpness=None, beta=2.0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isnan(functional.any_loss(logits, TARGETS, positive=2))  # no such class


def test_a_batch_of_one_class_has_a_finite_gradient():
    @jax.jit
    @jax.grad
    def slope(logits):
        nothing = np.zeros(8, np.int32)
        values = [functional.any_loss(logits, nothing, metric=x) for x in METRICS]
        return sum(values[1:], values[0])

    assert np.all(np.isfinite(slope(hard(TARGETS == 1))))


def test_groups_are_weighed_by_their_means():
    values = np.array([1.0, 3.0, 6.0, 6.0, 6.0, 9.0], np.float32)
    groups = np.array([0, 0, 1, 1, 1, 3])  # means 2, 6 and 9; none has 2
    by_rule = {
        "worst": 9.0,
        "mean": 17 / 3,
        "spread": 7.0,
        "variance": np.var([2.0, 6.0, 9.0]),
        "deviation": 2 * (17 / 3 - 2.0),
    }

    @jax.jit
    def of_groups(groups):
        return {
            rule: functional.over_groups(values, groups, num_groups=4, rule=rule)
            for rule in by_rule
        }

    several, single = of_groups(groups), of_groups(groups * 0)
    for rule, expected in by_rule.items():
        np.testing.assert_allclose(several[rule], expected, rtol=1e-6, err_msg=rule)
        one = single[rule]
        alike = 31 / 6 if rule in ("worst", "mean") else 0.0
        np.testing.assert_allclose(one, alike, rtol=1e-6, err_msg=rule)


def bag_losses(bags, num_bags, distance):
    logits = np.random.default_rng(1).normal(size=(8, 3), scale=2.0)
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)

    @jax.jit
    def losses_of(logits):
        return {
            rho: functional.bag_loss(
                logits,
                TARGETS,
                bags,
                num_bags=num_bags,
                instance_weight=rho,
                distance=distance,
            )
            for rho in (0.0, 0.25, 1.0)
        }

    of_rho = losses_of(np.float32(logits))
    return q, of_rho


def test_of_squares_instances_cost_the_variance_within_bags_more_than_bags():
    bags = np.array([0, 1, 0, 1, 1, 0, 0, 1])
    q, of_rho = bag_losses(bags, 3, "squared")
    within = sum(
        np.sum((q[bags == a] - q[bags == a].mean(0)) ** 2) for a in (0, 1)
    ) / len(bags)
    np.testing.assert_allclose(of_rho[1.0], of_rho[0.0] + within, rtol=1e-5)
    np.testing.assert_allclose(of_rho[0.25], of_rho[0.0] + 0.25 * within, rtol=1e-5)


@pytest.mark.parametrize("distance", ["squared", "cross_entropy"])
def test_bags_of_one_are_all_three_losses(distance):
    q, of_rho = bag_losses(np.arange(8), 8, distance)
    labels = np.eye(3)[TARGETS]
    expected = np.sum((labels - q) ** 2) / 8
    if distance == "cross_entropy":
        expected = -np.sum(labels * np.log(q)) / 8
    np.testing.assert_allclose(list(of_rho.values()), [expected] * 3, rtol=1e-5)


def test_the_cross_entropy_of_a_bag_is_below_that_of_its_instances():
    _, of_rho = bag_losses(np.array([0, 1, 0, 1, 1, 0, 0, 1]), 2, "cross_entropy")
    assert of_rho[0.0] < of_rho[0.25] < of_rho[1.0]


def test_a_bag_has_the_cross_entropy_of_its_labels_where_other_logits_are_impossible():
    logits = np.where(np.arange(3) == 2, -np.inf, RANDOM.normal(size=(8, 3)))
    value = functional.bag_loss(
        jnp.float32(logits),
        TARGETS,
        np.zeros(8, np.int32),
        num_bags=1,
        instance_weight=1.0,
        distance="cross_entropy",
    )
    log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(value, -log_q[:, :2].mean(), rtol=1e-5)


def test_group_dro_moves_on_the_simplex_toward_the_worst_group():
    values = np.array([[1.0, 1.0], [3.0, 9.0], [2.0, 2.0]], np.float32)
    mask = np.array([[True, True], [True, False], [True, True]])
    batch = {"group": np.array([0, 1, 0]), "targets": np.zeros((3, 2), np.int32)}
    inputs = BatchValues(
        values=jnp.where(mask, values, 0.0), mask=mask, batch=batch, step=jnp.int32(0)
    )
    of_group = np.array([1.5, 3.0, 0.0])  # a third group that no row has
    for step_size in (0.0, 0.5):
        dro = losses.GroupDRO(column="group", num_groups=3, step_size=step_size)
        weights, memory = dro(inputs, dro.initial())
        q = np.exp(step_size * of_group) / np.exp(step_size * of_group).sum()
        np.testing.assert_allclose(np.exp(memory["log_q"]), q, rtol=1e-6)
        objective = np.sum(np.asarray(weights) * values * mask) / mask.sum()
        np.testing.assert_allclose(objective, q @ of_group, rtol=1e-6)


def test_angles_are_those_of_every_triplet_by_hand():
    student, teacher = RANDOM.normal(size=(5, 3)), RANDOM.normal(size=(5, 4))
    there = np.array([True, True, False, True, True])

    def angle(x, i, j, k):
        first, second = x[i] - x[j], x[k] - x[j]
        return first @ second / np.linalg.norm(first) / np.linalg.norm(second)

    triplets = [x for x in itertools.permutations(range(5), 3) if there[list(x)].all()]
    apart = np.array([angle(student, *x) - angle(teacher, *x) for x in triplets])
    size = np.abs(apart)
    expected = np.where(size <= 1.0, apart**2 / 2, size - 0.5).mean()
    value = functional.relational_angle(
        student.astype(np.float32), teacher.astype(np.float32), there
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_angles_are_the_same_of_what_is_moved_turned_and_scaled():
    """Also where two rows are one: their gradient is finite."""
    rows = RANDOM.normal(size=(6, 4)).astype(np.float32)
    rows[1] = rows[0]
    turn = np.linalg.qr(RANDOM.normal(size=(4, 4)))[0].astype(np.float32)
    angle = jax.jit(jax.value_and_grad(functional.relational_angle))
    assert angle(3 * rows @ turn + 2, rows)[0] < 1e-10
    assert np.all(np.isfinite(angle(rows[::-1], rows)[1]))
