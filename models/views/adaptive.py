"""Projected ascent whose steps halve where it stops getting on: AutoAttack's APGD."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.views.balls import BALLS

Values = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""Shifts `[b n]` to a value a row `[b]` and its slopes `[b n]`."""

Allowed = Callable[[jax.Array], jax.Array]
MOMENTUM, RISES = 0.75, 0.75
SPARSE, SPARSER, SMALLEST = 0.05, 1.5, 10.0


class Best(NamedTuple):
    """The best shift of each row so far, its slopes and its value."""

    shift: jax.Array
    slopes: jax.Array
    value: jax.Array

    def with_(self, shift: jax.Array, slopes: jax.Array, value: jax.Array) -> "Best":
        """Return the better of both, row by row."""
        better = value > self.value
        return Best(
            *(_rows(better, *x) for x in zip((shift, slopes, value), self, strict=True))
        )


def climb(
    values: Values,
    start: jax.Array,
    allowed: Allowed,
    *,
    norm: str,
    radius: float,
    steps: int,
) -> jax.Array:
    """Return the best shift that is met on the way, `[b n]`.

    Of `"linf"` and `"l2"` a step is `η` of the steepest direction, from η = 2 radius,
    projected, with three quarters of it and one of the step before. At checks, further
    apart at first, a row's η halves, and it goes on from its best, where fewer than
    three quarters of the steps since the last one rose, or where the best stayed and η
    was not halved then (Croce and Hein 2020, arXiv:2003.01690, section 3, algorithm 1).

    Of `"l1"` a step is of size η, from η = radius, along equal parts of the steepest
    entries: a twentieth at first, then two thirds as many as the best shift has that
    are not zero. Where these got fewer by a twentieth the row goes on from its best at
    η = radius, else η shrinks by 1.5 to no less than a tenth (Croce and Hein 2021,
    arXiv:2103.01208, algorithm 1).

    Args:
      values: of shifts.
      start: shifts in the ball.
      allowed: of shifts in the ball, the nearest that are no further out.
      norm: of the ball.
      radius: of the ball.
      steps: how many.
    """
    project = BALLS[norm].project
    value, slopes = values(start)
    best = Best(start, slopes, value)

    def inside(shift: jax.Array) -> jax.Array:
        return allowed(project(shift, radius))

    rule = _sparse if norm == "l1" else _with_momentum
    init, move, check = rule(norm, radius, start, value)
    checks = _checks(norm, steps)

    def step(carry: tuple, at: tuple) -> tuple[tuple, None]:
        shift, slopes, best, state = carry
        first, window = at
        new, state = move(shift, slopes, state, first, inside)
        value, slopes = values(new)
        best = best.with_(new, slopes, value)
        back, state = check(best, value, state, window)
        return (
            _rows(back, best.shift, new),
            _rows(back, best.slopes, slopes),
            best,
            state,
        ), None

    at = jnp.arange(steps) == 0, jnp.asarray(checks)
    (_, _, best, _), _ = jax.lax.scan(step, (start, slopes, best, init), at)
    return best.shift


def _checks(norm: str, steps: int) -> np.ndarray:
    """Return steps since the last check where there is one, else 0, as released."""
    window = max(int((0.04 if norm == "l1" else 0.22) * steps), 1)
    shorter = 0 if norm == "l1" else max(int(0.03 * steps), 1)
    least = window if norm == "l1" else max(int(0.06 * steps), 1)
    checks, at = np.zeros(steps, np.int32), window
    while at <= steps:
        checks[at - 1] = window
        window = max(window - shorter, least)
        at += window
    return checks


def _with_momentum(norm: str, radius: float, start: jax.Array, value: jax.Array) -> Any:
    uphill = BALLS[norm].uphill
    none = jnp.zeros_like(value)
    init = {
        "before": start,
        "size": jnp.full_like(value, 2.0 * radius),
        "value": value,
        "rises": none,
        "checked": value,
        "halved": jnp.ones_like(value, bool),
    }

    def move(shift, slopes, state, first, inside):
        share = jnp.where(first, 1.0, MOMENTUM)
        straight = inside(shift + state["size"][:, None] * uphill(slopes))
        before = (1.0 - share) * (shift - state["before"])
        new = inside(shift + share * (straight - shift) + before)
        return new, {**state, "before": shift}

    def check(best, value, state, window):
        rises = state["rises"] + (value > state["value"]).astype(value.dtype)
        stays = ~state["halved"] & (state["checked"] >= best.value)
        halved = (rises <= RISES * window.astype(value.dtype)) | stays
        now = window > 0
        size = state["size"] * jnp.where(now & halved, 0.5, 1.0)
        return now & halved, {
            **state,
            "value": value,
            "size": size,
            "rises": jnp.where(now, 0.0, rises),
            "checked": jnp.where(now, best.value, state["checked"]),
            "halved": jnp.where(now, halved, state["halved"]),
        }

    return init, move, check


def _sparse(norm: str, radius: float, start: jax.Array, value: jax.Array) -> Any:
    del norm
    count = start.shape[-1]
    init = {
        "size": jnp.full_like(value, radius),
        "share": jnp.full_like(value, SPARSE),
        "filled": jnp.full_like(value, count),
    }

    def move(shift, slopes, state, first, inside):
        del first
        steep = jnp.abs(slopes)
        place = jnp.clip(
            ((1.0 - state["share"]) * count).astype(jnp.int32), 0, count - 1
        )
        least = jnp.take_along_axis(jnp.sort(steep, axis=-1), place[:, None], axis=-1)
        signs = jnp.where(steep >= least, jnp.sign(slopes), 0.0)
        parts = jnp.sum(jnp.abs(signs), axis=-1, keepdims=True) + 1e-10
        return inside(shift + state["size"][:, None] * signs / parts), state

    def check(best, value, state, window):
        del value
        filled = jnp.sum(best.shift != 0.0, axis=-1).astype(jnp.float32)
        fewer = filled < 0.95 * state["filled"]
        size = jnp.maximum(state["size"] / SPARSER, radius / SMALLEST)
        new = {
            "size": jnp.where(fewer, radius, size),
            "share": filled / (SPARSER * count),
            "filled": filled,
        }
        now = window > 0
        return now & fewer, {k: jnp.where(now, new[k], x) for k, x in state.items()}

    return init, move, check


def _rows(condition: jax.Array, one: jax.Array, other: jax.Array) -> jax.Array:
    """Return rows of `one` where the condition `[b]` holds, else of `other`."""
    shape = condition.shape + (1,) * (one.ndim - 1)
    return jnp.where(condition.reshape(shape), one, other)
