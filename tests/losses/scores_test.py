"""The target's standard score, and graphs of logits: identities of their papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import functional
from losses.core.batch_weights import BalanceInputs

LOGITS = np.random.default_rng(0).normal(size=(4, 6), scale=2.0).astype(np.float32)
TARGETS = np.array([0, 5, 2, 2], np.int32)


def test_the_standard_score_is_that_of_float64():
    s = LOGITS.astype(np.float64)
    z = (s - s.mean(-1, keepdims=True)) / s.std(-1, keepdims=True)
    expected = np.logaddexp(0.0, 3.0 * (0.5 - z[np.arange(4), TARGETS])) / 3.0
    value = functional.standard_score(LOGITS, TARGETS, sharpness=3.0, location=0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    moved = functional.standard_score(
        7.0 * LOGITS - 3.0, TARGETS, sharpness=3.0, location=0.5
    )
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_the_standard_score_has_its_floor_at_one_hot_logits():
    one_hot = np.eye(6, dtype=np.float32)[TARGETS]
    value = functional.standard_score(one_hot, TARGETS, sharpness=2.0)
    floor = np.logaddexp(0.0, 2.0 * -(5**0.5)) / 2.0
    np.testing.assert_allclose(value, [floor] * 4, rtol=1e-5)


def test_dice_falls_with_the_target_and_rises_past_its_turn():
    log_q = np.log([[0.5, 0.5], [0.7, 0.3], [0.9, 0.1]]).astype(np.float32)
    targets = np.zeros(3, np.int32)
    plain = functional.dice(log_q, targets, smoothing=0.0)
    q = np.array([0.5, 0.7, 0.9])
    np.testing.assert_allclose(plain, 1 - 2 * q / (q + 1), rtol=1e-5)
    f = np.array([0.5, 0.21, 0.09]) * [0.5, 1, 1]
    focused = functional.dice(log_q, targets, focus=1.0, smoothing=1.0)
    np.testing.assert_allclose(focused, 1 - (2 * f + 1) / (f + 2), rtol=1e-5)
    assert focused[0] < focused[1] < focused[2]  # above 1/2 it rises


def test_the_distance_of_graphs_is_that_of_their_row_means():
    random = np.random.default_rng(2)
    student, teacher = random.normal(size=(2, 1, 3, 5), scale=2.0)

    def degrees(logits):
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        z = -np.sort(-log_p[0], axis=-1)[:, :4]
        graph = np.einsum("ti,tj->ij", z, z) / 3
        return np.sort(graph.mean(1))

    expected = np.abs(degrees(student) - degrees(teacher)).mean()
    student, teacher = (np.asarray(x, np.float32) for x in (student, teacher))
    distance = jax.jit(functools.partial(functional.logit_graph, best=4))
    value = distance(student, teacher)
    np.testing.assert_allclose(value, np.full((1, 3), expected), rtol=1e-5)
    permuted = distance(np.ascontiguousarray(student[..., ::-1]), teacher)
    np.testing.assert_allclose(permuted, value, rtol=1e-6)
    same = distance(student, student[..., [3, 1, 0, 2, 4]] + np.float32(5.0))
    np.testing.assert_allclose(same, np.zeros((1, 3)), atol=1e-5)


def test_flips_are_the_difference_of_the_accuracies():
    random = np.random.default_rng(3)
    logits, other = random.normal(size=(2, 50, 3)).astype(np.float32)
    targets = np.int32(random.integers(0, 3, 50))
    seen = losses.FullOutputs(
        batch={"targets": targets},
        logits=logits,
        teacher=losses.TeacherOutputs(logits=other),
    )
    negative, positive = losses.NegativeFlip()(seen), losses.PositiveFlip()(seen)
    ours, theirs = ((x.argmax(-1) == targets).mean() for x in (logits, other))
    np.testing.assert_allclose(
        np.mean(positive) - np.mean(negative), ours - theirs, atol=1e-6
    )
    assert 0.0 < np.mean(negative) <= min(theirs, 1 - ours)


def test_a_bias_of_all_classes_changes_nothing():
    seen = losses.FullOutputs(batch={"targets": TARGETS}, logits=LOGITS)
    loss = losses.CrossEntropy()
    everywhere = losses.ClassBias(loss=loss, first=0, bias=4.0)
    biased, plain = jax.jit(lambda: (everywhere(seen), loss(seen)))()
    np.testing.assert_allclose(biased, plain, rtol=1e-6)
    with pytest.raises(ValueError, match="must hold a class, got 3 and 3"):
        losses.ClassBias(loss=loss, first=3, last=3)
    beyond = losses.ClassBias(loss=loss, first=LOGITS.shape[-1])
    with pytest.raises(ValueError, match=r"ClassBias: first=.* the classes 0 to"):
        beyond(seen)


def test_sigmoid_scores_are_shares_of_their_sum():
    router = np.random.default_rng(4).normal(size=(5, 2, 4), scale=3.0)
    chosen = np.argsort(-router, axis=-1)[..., :2].astype(np.int32)
    sigmoid = 1 / (1 + np.exp(-router))
    p = sigmoid / sigmoid.sum(-1, keepdims=True)
    share = np.eye(4)[chosen].sum(-2).mean(0)
    expected = 2.0 * (share * p).sum(-1).mean(-1)
    balance = jax.jit(functools.partial(functional.load_balance, scores="sigmoid"))
    value = balance(np.float32(router), chosen)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def separating(gamma, *, normalized):
    """Steps of gradient descent to all of theorem 5.1's 1,000 points right.

    One point (1/2, -1) of class +1, the others (-1/2, -1) of class -1, from weights of
    0; arXiv:2412.08424, table 1.
    """
    count = 1000.0
    points = jnp.array([[0.5, -1.0], [0.5, 1.0]])  # times their labels
    shares = jnp.array([1 / count, (count - 1) / count])
    balance = losses.Reciprocal(of="error")

    def step(carry):
        weights, steps = carry
        wrong = jax.nn.sigmoid(-points @ weights)
        inputs = BalanceInputs(step=steps, means={"error": shares @ wrong})
        scale = jnp.float32(1.0)
        if normalized:
            scale, _ = balance({"ce": scale}, inputs, {}, {})
        return weights + gamma * scale * ((shares * wrong) @ points), steps + 1

    def unfinished(carry):
        return jnp.any(points @ carry[0] <= 0.0)

    start = (jnp.zeros(2), jnp.int32(0))
    return int(jax.jit(lambda: jax.lax.while_loop(unfinished, step, start))()[1])


def test_normalized_gradient_descent_takes_the_published_steps():
    steps = [separating(gamma, normalized=True) for gamma in (100.0, 10.0, 1.0, 0.1)]
    assert steps == [2, 2, 16, 157]
    assert separating(100.0, normalized=False) == 308
