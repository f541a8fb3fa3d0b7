"""Sums over the vocabulary, computed a tile at a time, and their gradients.

One pass over the tiles computes the sums online, with a running maximum (Milakov and
Gimelshein 2018, arXiv:1805.02867). The losses are differentiated in the sums. A second
pass computes each tile's gradient from those of the sums. So no row of logits exists,
and no loss needs a gradient of its own.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.outputs import zero_outside
from losses.core.vocab_sums import Distribution, Entrywise, Tile, Tilewise


class SumValues(NamedTuple):
    """Sums over the vocabulary, in the order of the requests.

    Attributes:
      normalizers: one for each distribution.
      expected: one list for each distribution.
      totals: each `[*b ...]`.
    """

    normalizers: list[Float[Array, "*b"]]
    expected: list[list[Float[Array, "*b"]]]
    totals: list[Float[Array, "..."]]


class SumState(NamedTuple):
    """Running sums over the tiles so far.

    Attributes:
      largest: score, for each distribution.
      mass: `Σ_v exp(x_v - largest)`, for each distribution.
      moments: `Σ_v exp(x_v - largest) y_v`, one list for each distribution.
      totals: each `[*b ...]`.
    """

    largest: list[Float[Array, "*b"]]
    mass: list[Float[Array, "*b"]]
    moments: list[list[Float[Array, "*b"]]]
    totals: list[Float[Array, "..."]]


class SumRequests:
    """Requests of losses for sums over the vocabulary, and the passes that serve them.

    A `VocabSums` that records each request and returns zeros. After one evaluation of
    the losses, `start`, `add_tile` and `values` compute the sums, and `tangent` their
    gradients.

    Args:
      axes: sizes of the token axes `*b`.
    """

    def __init__(self, axes: tuple[int, ...]):
        self._axes = axes
        self._moments: dict[Distribution, list[Entrywise]] = {}
        self._totals: list[tuple[Tilewise, tuple[int, ...]]] = []

    def log_normalizer(self, of: Distribution) -> Float[Array, "*b"]:
        """Record the request; return zeros."""
        self._moments.setdefault(of, [])
        return jnp.zeros(self._axes)

    def expected(self, under: Distribution, of: Entrywise) -> Float[Array, "*b"]:
        """Record the request; return zeros."""
        self._moments.setdefault(under, []).append(of)
        return jnp.zeros(self._axes)

    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Record the request; return zeros."""
        self._totals.append((of, shape))
        return jnp.zeros((*self._axes, *shape))

    def start(self) -> SumState:
        """Return the running sums before the first tile."""
        zeros = jnp.zeros(self._axes)
        return SumState(
            largest=[zeros - jnp.inf for _ in self._moments],
            mass=[zeros for _ in self._moments],
            moments=[[zeros for _ in ys] for ys in self._moments.values()],
            totals=[jnp.zeros((*self._axes, *shape)) for _, shape in self._totals],
        )

    def add_tile(self, state: SumState, tile: Tile) -> SumState:
        """Return the running sums after one more tile."""
        new_state = SumState([], [], [], [])
        for (distribution, ys), largest, mass, moments in zip(
            self._moments.items(), state.largest, state.mass, state.moments, strict=True
        ):
            x = distribution.scores(tile)
            top = jnp.maximum(largest, jnp.max(x, axis=-1))
            finite = jnp.where(top == -jnp.inf, 0.0, top)
            rescale = jnp.exp(largest - finite)
            weights = jnp.exp(x - finite[..., None])
            new_state.largest.append(top)
            new_state.mass.append(mass * rescale + jnp.sum(weights, axis=-1))
            new_state.moments.append(
                [
                    moment * rescale + jnp.sum(weights * y(tile), axis=-1)
                    for moment, y in zip(moments, ys, strict=True)
                ]
            )
        new_state.totals.extend(
            total + of(tile)
            for total, (of, _) in zip(state.totals, self._totals, strict=True)
        )
        return new_state

    def values(self, state: SumState) -> SumValues:
        """Return the sums from the running sums after the last tile."""
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

    def results(self, values: SumValues) -> "SumResults":
        """Return a `VocabSums` that serves the same requests, in the same order."""
        return SumResults(list(self._moments), values)

    def tangent(
        self, tile: Tile, state: SumState, values: SumValues, cotangents: SumValues
    ) -> Float[Array, ""]:
        """Return a scalar whose gradient in the tile's logits is that of the sums.

        With `w = softmax(x)` constant, `∂ log Z / ∂x_v = w_v`, and
        `∂ E[y] / ∂x_v = w_v (y_v - E[y])`. A token whose cotangents are all zero has a
        gradient of zero, whatever its logits are. `w` is `exp(x - max x) / mass`: of
        `exp(x - log Z)`, every entry would share the rounding of `log Z`.

        Args:
          tile: the tile.
          state: running sums after the last tile.
          values: the sums, from `state`.
          cotangents: gradient of the losses in `values`.
        """
        tile = self._mask_tile(tile, cotangents)
        parts = []

        # Log-normalisers and expectations, a distribution at a time.
        for i, (distribution, ys) in enumerate(self._moments.items()):
            d_log_z, d_means = cotangents.normalizers[i], cotangents.expected[i]
            nonzero = [x != 0.0 for x in (d_log_z, *d_means)]
            used = functools.reduce(jnp.logical_or, nonzero)
            scores = jnp.where(used[..., None], distribution.scores(tile), -jnp.inf)
            top, mass = state.largest[i], state.mass[i]
            finite = jnp.where(used & (top > -jnp.inf), top, 0.0)
            share = jnp.where(used & (mass > 0.0), 1.0 / mass, 0.0)
            inner = (d_log_z * share)[..., None]
            for y, mean, d_mean in zip(ys, values.expected[i], d_means, strict=True):
                d_y = (d_mean * share)[..., None]
                inner = inner + d_y * (y(tile) - mean[..., None])
            parts.append(jnp.sum(jnp.exp(scores - finite[..., None]) * inner))

        # Totals.
        for (of, _), d_total in zip(self._totals, cotangents.totals, strict=True):
            parts.append(jnp.sum(d_total * of(tile)))
        return sum(parts, jnp.float32(0.0))

    def _mask_tile(self, tile: Tile, cotangents: SumValues) -> Tile:
        """Return the tile, zero for tokens whose cotangents are all zero."""
        axes = len(self._axes)
        nonzero = [
            jnp.any(x != 0.0, axis=tuple(range(axes, x.ndim)))
            for x in jax.tree.leaves(cotangents)
        ]
        used = functools.reduce(jnp.logical_or, nonzero)
        teacher = None if tile.teacher is None else zero_outside(tile.teacher, used)
        return tile._replace(student=zero_outside(tile.student, used), teacher=teacher)


class SumResults:
    """A `VocabSums` of computed sums, which it returns in the order of the requests.

    Args:
      distributions: those of `values`, in its order.
      values: the sums.
    """

    def __init__(self, distributions: Sequence[Distribution], values: SumValues):
        self._normalizers: Mapping[Distribution, Float[Array, "*b"]] = dict(
            zip(distributions, values.normalizers, strict=True)
        )
        self._expected = {
            distribution: iter(means)
            for distribution, means in zip(distributions, values.expected, strict=True)
        }
        self._totals = iter(values.totals)

    def log_normalizer(self, of: Distribution) -> Float[Array, "*b"]:
        """Return the log-normaliser of a distribution."""
        return self._normalizers[of]

    def expected(self, under: Distribution, of: Entrywise) -> Float[Array, "*b"]:
        """Return the next expectation under a distribution."""
        del of
        return next(self._expected[under])

    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Return the next total."""
        del of, shape
        return next(self._totals)
