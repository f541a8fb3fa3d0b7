"""Sums over the vocabulary, found a tile at a time, and their gradients.

One pass over the tiles collects the sums online, with a running maximum (Milakov and
Gimelshein 2018, arXiv:1805.02867). What a loss makes of them is differentiated as it
stands. A second pass gives each tile the gradient that the sums have there. So no row
of logits exists, and no loss needs a gradient of its own.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from losses.core.outputs import zero_outside
from losses.core.vocab_sums import Distribution, Entrywise, Tile


class SumValues(NamedTuple):
    """The sums, in the order in which they were asked for.

    normalizers: one a distribution, `[*b]`.
    expected:    one list a distribution, each `[*b]`.
    totals:      each `[*b ...]`.
    """

    normalizers: list[jax.Array]
    expected: list[list[jax.Array]]
    totals: list[jax.Array]


class SumState(NamedTuple):
    """`SumValues` under way: largest score so far, and sums of `exp(x - largest)`."""

    largest: list[jax.Array]
    mass: list[jax.Array]
    moments: list[list[jax.Array]]
    totals: list[jax.Array]


class SumRequests:
    """The sums that some losses ask for; to ask, they are run once over zeros.

    axes: `*b`.
    """

    def __init__(self, axes: tuple[int, ...]):
        self._axes = axes
        self._moments: dict[Distribution, list[Entrywise]] = {}
        self._totals: list[tuple[Entrywise, tuple[int, ...]]] = []

    def log_normalizer(self, of: Distribution) -> jax.Array:
        """Noted; zeros."""
        self._moments.setdefault(of, [])
        return jnp.zeros(self._axes)

    def expected(self, under: Distribution, of: Entrywise) -> jax.Array:
        """Noted; zeros."""
        self._moments.setdefault(under, []).append(of)
        return jnp.zeros(self._axes)

    def total(self, of: Entrywise, *, shape: tuple[int, ...] = ()) -> jax.Array:
        """Noted; zeros."""
        self._totals.append((of, shape))
        return jnp.zeros((*self._axes, *shape))

    def start(self) -> SumState:
        """Before the first tile."""
        zeros = jnp.zeros(self._axes)
        return SumState(
            largest=[zeros - jnp.inf for _ in self._moments],
            mass=[zeros for _ in self._moments],
            moments=[[zeros for _ in ys] for ys in self._moments.values()],
            totals=[jnp.zeros((*self._axes, *shape)) for _, shape in self._totals],
        )

    def updated(self, state: SumState, tile: Tile) -> SumState:
        """After one more tile."""
        following = SumState([], [], [], [])
        for (distribution, ys), largest, mass, moments in zip(
            self._moments.items(), state.largest, state.mass, state.moments, strict=True
        ):
            x = distribution.scores(tile)
            top = jnp.maximum(largest, jnp.max(x, axis=-1))
            finite = jnp.where(top == -jnp.inf, 0.0, top)
            shrunk = jnp.exp(largest - finite)
            weights = jnp.exp(x - finite[..., None])
            following.largest.append(top)
            following.mass.append(mass * shrunk + jnp.sum(weights, axis=-1))
            following.moments.append(
                [
                    moment * shrunk + jnp.sum(weights * y(tile), axis=-1)
                    for moment, y in zip(moments, ys, strict=True)
                ]
            )
        following.totals.extend(
            total + of(tile)
            for total, (of, _) in zip(state.totals, self._totals, strict=True)
        )
        return following

    def found(self, state: SumState) -> SumValues:
        """After the last tile."""
        return SumValues(
            normalizers=[
                jnp.log(mass) + jnp.where(top == -jnp.inf, 0.0, top)
                for top, mass in zip(state.largest, state.mass, strict=True)
            ],
            expected=[
                [moment / jnp.where(mass > 0, mass, 1.0) for moment in moments]
                for moments, mass in zip(state.moments, state.mass, strict=True)
            ],
            totals=state.totals,
        )

    def answers(self, found: SumValues) -> "SumResults":
        """What gives the same losses, asking in the same order, what was found."""
        return SumResults(list(self._moments), found)

    def tangent(
        self, tile: Tile, state: SumState, found: SumValues, cotangents: SumValues
    ) -> jax.Array:
        """A scalar whose gradient in the tile's logits is that of the sums.

        With `w = softmax(x)` known, `∂ log Z / ∂x_v = w_v`, and
        `∂ E[y] / ∂x_v = w_v (y_v - E[y])`. A token that nothing asks about has none,
        whatever its logits are. `w` is `exp(x - max x) / mass`: of `exp(x - log Z)`,
        every entry would share the rounding of `log Z`.

        state: after the last tile; `found` is what it gave.
        """
        tile = self._shown(tile, cotangents)
        parts = []
        for i, (distribution, ys) in enumerate(self._moments.items()):
            d_log_z, d_means = cotangents.normalizers[i], cotangents.expected[i]
            asked = [x != 0.0 for x in (d_log_z, *d_means)]
            used = functools.reduce(jnp.logical_or, asked)
            scores = jnp.where(used[..., None], distribution.scores(tile), -jnp.inf)
            top, mass = state.largest[i], state.mass[i]
            finite = jnp.where(used & (top > -jnp.inf), top, 0.0)
            share = jnp.where(used & (mass > 0.0), 1.0 / mass, 0.0)
            inner = (d_log_z * share)[..., None]
            for y, mean, d_mean in zip(ys, found.expected[i], d_means, strict=True):
                d_y = (d_mean * share)[..., None]
                inner = inner + d_y * (y(tile) - mean[..., None])
            parts.append(jnp.sum(jnp.exp(scores - finite[..., None]) * inner))
        for (of, _), d_total in zip(self._totals, cotangents.totals, strict=True):
            parts.append(jnp.sum(d_total * of(tile)))
        return sum(parts, jnp.float32(0.0))

    def _shown(self, tile: Tile, cotangents: SumValues) -> Tile:
        """The tile, zero for tokens that nothing asks about."""
        axes = len(self._axes)
        asked = [
            jnp.any(x != 0.0, axis=tuple(range(axes, x.ndim)))
            for x in jax.tree.leaves(cotangents)
        ]
        used = functools.reduce(jnp.logical_or, asked)
        teacher = None if tile.teacher is None else zero_outside(tile.teacher, used)
        return tile._replace(student=zero_outside(tile.student, used), teacher=teacher)


class SumResults:
    """Sums that were found, handed out in the order in which they were asked for."""

    def __init__(self, distributions: Sequence[Distribution], found: SumValues):
        self._normalizers: Mapping[Distribution, jax.Array] = dict(
            zip(distributions, found.normalizers, strict=True)
        )
        self._expected = {
            distribution: iter(means)
            for distribution, means in zip(distributions, found.expected, strict=True)
        }
        self._totals = iter(found.totals)

    def log_normalizer(self, of: Distribution) -> jax.Array:
        """What was found for `of`."""
        return self._normalizers[of]

    def expected(self, under: Distribution, of: Entrywise) -> jax.Array:
        """The next of those under this distribution."""
        del of
        return next(self._expected[under])

    def total(self, of: Entrywise, *, shape: tuple[int, ...] = ()) -> jax.Array:
        """The next total."""
        del of, shape
        return next(self._totals)
