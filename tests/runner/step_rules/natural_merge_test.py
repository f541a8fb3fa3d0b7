"""Merged turns against the released function, in NumPy."""

import jax
import numpy as np
import optax
import pytest

import losses
from runner import step_rules

RATE, STEPS, SHARE = 0.1, 3, 0.3


def gp(share, natural, old, adversarial):
    """`gp` of RAMP's utils.py, over one array."""
    g_a, g_n = adversarial - old, natural - old
    cosine = (g_a * g_n).sum() / np.linalg.norm(g_a) / np.linalg.norm(g_n)
    merged = old + share * cosine * g_n if cosine > 0 else old.copy()
    return merged + (1 - share) * g_a


def descent(x, goal, velocity):
    """A turn of gradient descent with momentum towards a goal."""
    for _ in range(STEPS):
        velocity = 0.9 * velocity + (x - goal)
        x = x - RATE * velocity
    return x, velocity


def test_turns_are_merged_as_released():
    draw = np.random.default_rng(0)
    near = draw.normal(size=5)
    goals = {  # of natural and adversarial turns: alike, and opposite
        "alike": (near, near + 0.3 * draw.normal(size=5)),
        "opposite": (near, -near),
    }
    tree = {name: np.zeros(5, np.float32) for name in goals}
    weights = [losses.Turn(steps=STEPS, turn=turn) for turn in (0, 1)]
    optimizer = step_rules.natural_merge(
        optax.sgd(RATE, momentum=0.9), steps=STEPS, share=SHARE
    )

    @jax.jit
    def step(params, state, number):
        natural, adversarial = (weight(number) for weight in weights)
        slopes = {
            name: natural * (x - np.float32(goals[name][0]))
            + adversarial * (x - np.float32(goals[name][1]))
            for name, x in params.items()
        }
        updates, state = optimizer.update(slopes, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(optimizer.init)(tree)
    expected = {name: (np.zeros(5), np.zeros(5), np.zeros(5)) for name in goals}
    for pair in range(2):
        for number in range(2 * STEPS):
            tree, state = step(tree, state, np.int32(2 * STEPS * pair + number))
        for name, (x, of_natural, of_adversarial) in expected.items():
            natural, of_natural = descent(x, goals[name][0], of_natural)
            adversarial, of_adversarial = descent(x, goals[name][1], of_adversarial)
            merged = gp(SHARE, natural, x, adversarial)
            expected[name] = merged, of_natural, of_adversarial
            np.testing.assert_allclose(tree[name], merged, rtol=1e-4, atol=1e-5)

    with pytest.raises(ValueError, match="turn one of 0 to of - 1"):
        losses.Turn(steps=3, turn=2)


def test_a_step_without_an_update_is_a_step_of_a_turn():
    optimizer = step_rules.natural_merge(
        optax.apply_if_finite(optax.sgd(RATE), 9), steps=STEPS
    )
    params = np.ones(1, np.float32)
    _, state = jax.jit(optimizer.update)(
        np.float32([np.nan]), optimizer.init(params), params
    )
    assert int(getattr(state, "step", -1)) == 1
