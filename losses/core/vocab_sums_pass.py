"""Sums over the vocabulary, computed a tile at a time, and their gradients.

One pass over the tiles computes the sums online, with a running maximum (Milakov and
Gimelshein 2018, arXiv:1805.02867). The losses are differentiated in the sums. A second
pass computes each tile's gradient from those of the sums. So no row of logits exists,
and no loss needs a gradient of its own.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.outputs import none_of, zero_outside
from losses.core.tiles import Distribution, Tile
from losses.core.vocab_sums import SumRequests, SumResults


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


@dataclasses.dataclass(frozen=True)
class VocabSumsPass:
    """The passes over the tiles that serve what losses have requested.

    Attributes:
      requests: of one evaluation of the losses.
    """

    requests: SumRequests

    def start(self) -> SumState:
        """Return the running sums before the first tile."""
        axes, moments = self.requests.token_axes, self.requests.moments
        zeros = jnp.zeros(axes)
        return SumState(
            largest=[zeros - jnp.inf for _ in moments],
            mass=[zeros for _ in moments],
            moments=[[zeros for _ in ys] for ys in moments.values()],
            totals=[jnp.zeros((*axes, *shape)) for _, shape in self.requests.totals],
        )

    def add_tile(self, state: SumState, tile: Tile) -> SumState:
        """Return the running sums after one more tile."""
        new_state = SumState([], [], [], [])
        for (distribution, ys), largest, mass, moments in zip(
            self.requests.moments.items(),
            state.largest,
            state.mass,
            state.moments,
            strict=True,
        ):
            # Rescaled to the new maximum, if any score is finite yet: else NaN.
            x = self._scores(distribution, tile)
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
            for total, (of, _) in zip(state.totals, self.requests.totals, strict=True)
        )
        return new_state

    def results(self, state: SumState) -> SumResults:
        """Return the sums from the running sums after the last tile."""
        return SumResults(
            distributions=tuple(self.requests.moments),
            normalizers=[
                jnp.log(mass) + jnp.where(top == -jnp.inf, 0.0, top)
                for top, mass in zip(state.largest, state.mass, strict=True)
            ],
            expectations=[
                [moment / jnp.where(mass > 0, mass, 1.0) for moment in moments]
                for moments, mass in zip(state.moments, state.mass, strict=True)
            ],
            totals=state.totals,
        )

    def tangent(
        self, tile: Tile, state: SumState, sums: SumResults, cotangents: SumResults
    ) -> Float[Array, ""]:
        """Return a scalar whose gradient in the tile's logits is that of the sums.

        With `w = softmax(x)` constant, `∂ log Z / ∂x_v = w_v`, and
        `∂ E[y] / ∂x_v = w_v (y_v - E[y])`. A token whose cotangents are all zero has a
        gradient of zero, whatever its logits are. `w` is `exp(x - max x) / mass`: of
        `exp(x - log Z)`, every entry would share the rounding of `log Z`.

        Args:
          tile: the tile.
          state: running sums after the last tile.
          sums: their results, from `state`.
          cotangents: gradient of the losses in `sums`.
        """
        tile = self._mask_tile(tile, cotangents)
        parts = []

        # Log-normalisers and expectations, a distribution at a time.
        for i, (distribution, ys) in enumerate(self.requests.moments.items()):
            d_log_z, d_means = cotangents.normalizers[i], cotangents.expectations[i]
            nonzero = [x != 0.0 for x in (d_log_z, *d_means)]
            used = functools.reduce(jnp.logical_or, nonzero)
            scores = self._scores(distribution, tile)
            scores = jnp.where(used[..., None], scores, -jnp.inf)
            top, mass = state.largest[i], state.mass[i]
            finite = jnp.where(used & (top > -jnp.inf), top, 0.0)
            share = jnp.where(used & (mass > 0.0), 1.0 / mass, 0.0)
            inner = (d_log_z * share)[..., None]
            for y, mean, d_mean in zip(ys, sums.expectations[i], d_means, strict=True):
                d_y = (d_mean * share)[..., None]
                # What has no cotangent may be NaN: a term of weight 0 asked for it.
                inner = inner + jnp.where(
                    d_mean[..., None] == 0.0, 0.0, d_y * (y(tile) - mean[..., None])
                )
            parts.append(jnp.sum(jnp.exp(scores - finite[..., None]) * inner))

        # Totals.
        for (of, _), d_total in zip(
            self.requests.totals, cotangents.totals, strict=True
        ):
            parts.append(jnp.sum(d_total * of(tile)))
        return sum(parts, jnp.float32(0.0))

    def _scores(self, of: Distribution, tile: Tile) -> Float[Array, "*b n"]:
        """Return `x / T`, -inf at ids that the distribution leaves out."""
        scores = of.scores(tile)
        if of.excluded is None:
            return scores
        place, here = tile.place(self.requests.excluded[of.excluded])
        place = jnp.where(here, place, scores.shape[-1])
        return jnp.where(none_of(place, scores.shape), scores, -jnp.inf)

    def _mask_tile(self, tile: Tile, cotangents: SumResults) -> Tile:
        """Return the tile, zero for tokens whose cotangents are all zero."""
        axes = len(self.requests.token_axes)
        nonzero = [
            jnp.any(x != 0.0, axis=tuple(range(axes, x.ndim)))
            for x in jax.tree.leaves(cotangents)
        ]
        used = functools.reduce(jnp.logical_or, nonzero)
        student, teacher = zero_outside((tile.student, tile.teacher), used)
        return tile._replace(student=student, teacher=teacher)
