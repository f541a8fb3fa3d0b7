"""Balls around the rows of a batch: steps uphill, projections, draws; rows `[b n]`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

TINY = 1e-12


class Ball(NamedTuple):
    """`‖δ‖ ≤ r` of every row.

    Attributes:
      uphill: slopes `[b n]` to steps of norm 1 that climb the most, zero at a zero.
      project: `δ [b n], r` to the nearest point of the ball.
      draw: `key, n` to a point of the ball of radius 1, `[n]`.
    """

    uphill: Callable[[jax.Array], jax.Array]
    project: Callable[[jax.Array, float], jax.Array]
    draw: Callable[[jax.Array, int], jax.Array]


def _norm(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True))


def _to_l2(x: jax.Array, radius: float) -> jax.Array:
    return x * jnp.minimum(1.0, radius / jnp.maximum(_norm(x), TINY))


def _to_l1(x: jax.Array, radius: float) -> jax.Array:
    """Shrink all entries by one threshold (Duchi et al. 2008, figure 1)."""
    size = jnp.abs(x)
    ordered = jnp.sort(size, axis=-1, descending=True)
    count = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype).reshape(1, -1)
    excess = (jnp.cumsum(ordered, axis=-1) - radius) / count
    last = jnp.sum(ordered > excess, axis=-1, keepdims=True)
    threshold = jnp.take_along_axis(excess, jnp.maximum(last - 1, 0), axis=-1)
    return jnp.sign(x) * jnp.maximum(size - jnp.maximum(threshold, 0.0), 0.0)


def _uphill_l1(slopes: jax.Array) -> jax.Array:
    """Step by equal parts along the steepest twentieth of the entries, at least one."""
    count = max(1, slopes.shape[-1] // 20)
    size = jnp.abs(slopes)
    least = jax.lax.top_k(size, count)[0][:, -1:]
    return jnp.where(size >= least, jnp.sign(slopes), 0.0) / count


def _draw_linf(key: jax.Array, size: int) -> jax.Array:
    return jax.random.uniform(key, (size,), minval=-1.0, maxval=1.0)


BALLS = {
    "linf": Ball(jnp.sign, lambda x, r: jnp.clip(x, -r, r), _draw_linf),
    "l2": Ball(
        lambda x: x / jnp.maximum(_norm(x), TINY),
        _to_l2,
        lambda key, size: jax.random.ball(key, size, p=2),
    ),
    "l1": Ball(_uphill_l1, _to_l1, lambda key, size: jax.random.ball(key, size, p=1)),
}
"""By norm."""
