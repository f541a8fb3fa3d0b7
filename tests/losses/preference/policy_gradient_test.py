"""Policy gradient of rewards: the formulas of its released code, and how it is cut."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import LossTerm, functional
from runner import runtime
from tests.runner.teachers import examples

RANDOM = np.random.default_rng(2)
REWARDS = np.array([1, 0, 0, 1, 0.5, 0, 3, 0, 2, 2, 2, 2], np.float32)


def test_advantages_are_those_of_each_group():
    groups = np.float64(REWARDS).reshape(3, 4)
    mean, deviation = groups.mean(1, keepdims=True), groups.std(1, ddof=1)[:, None]
    expected = ((groups - mean) / (deviation + 1e-6)).reshape(-1)
    actual = functional.group_advantages(REWARDS, group=4)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert not np.any(expected[8:])  # of equal rewards, nothing is learnt
    there = np.arange(12) != 3
    actual = functional.group_advantages(REWARDS, there, group=4)
    apart = groups[0, :3] - groups[0, :3].mean()
    expected[:3] = apart / (groups[0, :3].std(ddof=1) + 1e-6)
    expected[3] = 0.0
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_the_loss_is_the_clipped_one_of_the_released_code():
    log_q, advantages = RANDOM.normal(size=(2, 3, 8)) * [[[0.5]], [[2.0]]]
    drawn = log_q + RANDOM.normal(size=log_q.shape, scale=0.4)
    ratio = np.exp(log_q - drawn)
    first, second = -advantages * ratio, -advantages * np.clip(ratio, 0.8, 1.2)
    expected = np.maximum(first, second)
    assert {True, False} == set((first < second).reshape(-1).tolist())
    arrays = (np.float32(x) for x in (log_q, advantages, drawn))
    actual = functional.clipped_policy_gradient(*arrays)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)

    # What the weights that learn have drawn is not clipped: the score times A.
    slope = jax.grad(
        lambda x: jnp.sum(
            functional.clipped_policy_gradient(x, jnp.float32(advantages))
        )
    )(jnp.float32(log_q))
    np.testing.assert_allclose(slope, -advantages, rtol=1e-5)


def test_means_over_tokens_or_rows_and_their_slopes_are_those_of_trl():
    """`make_trl_grpo.py` writes it: TRL 1.16.0, torch 2.13.0."""
    trl = dict(np.load(Path(__file__).parent / "trl_grpo.npz"))
    single = {k: jnp.float32(x) for k, x in trl.items() if x.dtype == np.float64}
    advantages = functional.group_advantages(single["rewards"], group=4, eps=1e-4)
    np.testing.assert_allclose(advantages, trl["advantages"], rtol=1e-5, atol=1e-6)
    mask = jnp.float32(trl["mask"])
    row = jnp.sum(mask, axis=1, keepdims=True)
    weights = {
        "bnpo": mask / jnp.sum(mask),  # the mean of a term
        "dapo": mask / jnp.sum(mask),
        "grpo": mask / (row * len(mask)),
        "dr_grpo": mask / mask.size,
    }

    @jax.jit
    def both(log_q):
        columns = jnp.broadcast_to(advantages[:, None], mask.shape)
        return [
            functional.clipped_policy_gradient(log_q, columns, drawn, clip=0.2)
            for drawn in (single["drawn"], None)
        ]

    values, pullback = jax.vjp(both, single["log_q"])
    for kind, weight in weights.items():
        for i, fresh in enumerate(("", "/fresh")):
            value = jnp.sum(weight * values[i])
            expected = trl[f"{kind}{fresh}/value"]
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
            (slope,) = pullback([weight * np.float32(j == i) for j in (0, 1)])
            expected = trl[f"{kind}{fresh}/slope"]
            np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-7)


def test_an_answer_is_rewarded_where_the_student_has_written_it():
    batch = {
        "targets": np.array([[1, 7, 2], [7, 1, 1], [7, 7, 7]], np.int32),
        "mask": np.array([[False, True, True], [False, True, True], [True] * 3]),
        "own": np.array([True, True, False]),
        "answer": np.array([7, 7, 7], np.int32),
    }
    reward = losses.SaysAnswer(column="answer")(batch)
    np.testing.assert_array_equal(reward, [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="group must be at least 2, got 1"):
        losses.PolicyGradient(reward=losses.SaysAnswer(column="answer"), group=1)


def evens(batch):
    """A reward: how many of the row's targets are even."""
    counts = batch["mask"] & (batch["targets"] % 2 == 0)
    return jnp.sum(counts, axis=1, dtype=jnp.float32)


@pytest.mark.slow  # two whole steps
def test_groups_are_those_of_the_global_batch_however_it_is_cut(tmp_path):
    corpus = examples.source(tmp_path / "text")
    loss = losses.PolicyGradient(reward=evens, group=4)
    terms = [LossTerm(name="reward", loss=loss, mask=losses.target_mask)]
    cuts = (
        {"mesh": runtime.Mesh(data=1, tensor=8)},
        {"mesh": runtime.Mesh(data=4, tensor=2), "microbatches": 2},
    )
    one, other = (
        examples.gradients(examples.experiment(corpus, None, terms=terms), **cut)[0][:2]
        for cut in cuts
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other
    )
    assert max(np.abs(x).max() for x in jax.tree.leaves(one[0])) > 1e-3
