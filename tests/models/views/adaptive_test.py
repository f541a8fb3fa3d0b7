"""Adaptive ascent against `apgd_train` of RAMP's code, in NumPy, a row at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import Ascent
from models.views import adaptive

SIZE, STEPS, RADIUS = 24, 25, 0.6
DRAW = np.random.default_rng(0)
WAVES = DRAW.normal(size=(9, SIZE))
CENTERS = DRAW.normal(size=(4, SIZE))


def value(x):
    return np.sin(WAVES @ x).sum()


def slopes(x):
    return np.cos(WAVES @ x) @ WAVES


def to_l1(shift):
    """The nearest point of the ball (Duchi et al. 2008, figure 1)."""
    size = np.abs(shift)
    if size.sum() <= RADIUS:
        return shift
    ordered = np.sort(size)[::-1]
    excess = (np.cumsum(ordered) - RADIUS) / np.arange(1, SIZE + 1)
    threshold = excess[np.flatnonzero(ordered > excess)[-1]]
    return np.sign(shift) * np.maximum(size - threshold, 0.0)


def released(x, norm):
    """One row of `apgd_train`, without the box of the pixels."""
    x_adv, x_old, best, best_slopes = x.copy(), x.copy(), x.copy(), slopes(x)
    slope, best_value = slopes(x), value(x)
    history, checked, reduced = [value(x)], value(x), True
    k = max(int((0.04 if norm == "l1" else 0.22) * STEPS), 1)
    step = RADIUS * (1.0 if norm == "l1" else 2.0)
    topk, sp_old, since = 0.05, SIZE, 0
    for i in range(STEPS):
        last, x_old = x_adv - x_old, x_adv.copy()
        if norm == "linf":
            a = 0.75 if i else 1.0
            z = x + np.clip(x_adv + step * np.sign(slope) - x, -RADIUS, RADIUS)
            x_adv = x_adv + (z - x_adv) * a + last * (1 - a)
            x_adv = x + np.clip(x_adv - x, -RADIUS, RADIUS)
        else:
            place = int(np.clip((1.0 - topk) * SIZE, 0, SIZE - 1))
            signs = np.sign(slope) * (np.abs(slope) >= np.sort(np.abs(slope))[place])
            x_adv = x + to_l1(x_adv + step * signs / np.abs(signs).sum() - x)
        history.append(value(x_adv))
        slope, since = slopes(x_adv), since + 1
        if history[-1] > best_value:
            best, best_slopes, best_value = x_adv.copy(), slope, history[-1]
        if since < k:
            continue
        since = 0
        if norm == "linf":
            rises = sum(history[-j] > history[-j - 1] for j in range(1, k + 1))
            halve = rises <= 0.75 * k or (not reduced and checked >= best_value)
            reduced, checked = halve, best_value
            k = max(k - max(int(0.03 * STEPS), 1), max(int(0.06 * STEPS), 1))
            step /= 2.0 if halve else 1.0
        else:
            sp = np.count_nonzero(best - x)
            halve = sp / sp_old < 0.95
            topk, sp_old = sp / SIZE / 1.5, sp
            step = np.clip(RADIUS if halve else step / 1.5, RADIUS / 10, RADIUS)
        if halve:
            x_adv, slope = best.copy(), best_slopes
    return best


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_shifts_are_those_of_the_released_attack(norm):
    waves, centers = (jnp.asarray(x, jnp.float32) for x in (WAVES, CENTERS))

    def values(shift):
        angles = (centers + shift) @ waves.T
        return jnp.sum(jnp.sin(angles), axis=-1), jnp.cos(angles) @ waves

    @jax.jit
    def climb(start):
        return adaptive.climb(
            values, start, lambda x: x, norm=norm, radius=RADIUS, steps=STEPS
        )

    found = np.asarray(climb(jnp.zeros(CENTERS.shape)))
    for row, center in zip(found, CENTERS, strict=True):
        expected = released(center, norm)
        assert value(expected) > value(center)
        np.testing.assert_allclose(center + row, expected, atol=2e-4)


def test_a_step_of_ones_own_does_not_adapt():
    with pytest.raises(ValueError, match="step must be None"):
        Ascent(radius=0.1, step=0.1, sizes="adaptive")
