"""Losses that compare the rows of the global batch with each other."""

import abc
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.core.of_means import Means
from losses.core.outputs import Outputs, PerToken
from losses.core.settled import SettledOnce

PLACE = "place"
"""Entry of the batch: the place of each row in the global batch, int32 `[b]`."""

Rows = Float[Array, "row d"]
There = Bool[Array, " row"]

_WEIGHT = "weight of "


class Feature(NamedTuple):
    """An array to pool over the tokens of each row.

    Attributes:
      values: `[*b d]`.
      weights: of the tokens in the row's mean, `[*b]`.
    """

    values: Float[Array, "*b d"]
    weights: PerToken


class OfRows(SettledOnce, abstract=True):
    """`f(X, Y, ...)` of features pooled over each row of the global batch.

    Pooled rows are sums over tokens: with e_i the one-hot of a row's place,

        X_i = Σ_t w_t e_i(t) x_t / Σ_t w_t e_i(t)

    so such a loss is a function of means over the batch, as every `OfMeans` is: exact
    under accumulation, blocks of tokens and any mesh, negatives of all devices and
    microbatches included. A pass over the batch gathers the rows, f is differentiated
    once in all of them, and each block carries the part of its rows back: the cached
    gradients of GradCache (arXiv:2101.06983), whatever fits a microbatch.

    A loss defines `features` and `of_rows`. Rows without a token that counts are not
    `there`; f leaves them out, finite and with a finite gradient.
    """

    reads_rows = True
    unit = "1"

    @abc.abstractmethod
    def features(self, outputs: Outputs) -> Mapping[str, Feature]:
        """Return what is pooled, by name; a name that starts `teacher/` is constant."""

    @abc.abstractmethod
    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        """Return f, float32.

        Args:
          rows: the pooled features, `[B d]` by name; zeros where there are none.
          there: which rows have all of them, bool `[B]`.
        """

    def statistic_sums(self, outputs: Outputs, tokens: PerToken) -> Means:
        sums = {}
        place = outputs.batch[PLACE].reshape(-1)
        for name, (values, weights) in self.features(outputs).items():
            weight = (tokens * weights).reshape(-1)
            flat = values.astype(jnp.float32).reshape((weight.size, -1))
            for key, parts in (
                (name, flat * weight[:, None]),
                (_WEIGHT + name, weight),
            ):
                empty = jnp.zeros((outputs.num_rows, *parts.shape[1:]), jnp.float32)
                sums[key] = empty.at[place].add(parts)
        return sums

    def of_means(self, means: Means) -> Float[Array, ""]:
        names = [name for name in means if not name.startswith(_WEIGHT)]
        there = jnp.all(jnp.stack([means[_WEIGHT + n] > 0.0 for n in names]), axis=0)
        rows = {}
        for name in names:
            weight = jnp.where(there, means[_WEIGHT + name], 1.0)
            rows[name] = jnp.where(there[:, None], means[name] / weight[:, None], 0.0)
        return self.of_rows(rows, there)

    def deviation(self, outputs: Outputs, slopes: Means) -> PerToken:
        """Return `<∇f, x_t - X>` for the student's features; weights are constants."""
        place = outputs.batch[PLACE]
        total = jnp.zeros(place.shape, jnp.float32)
        for name, (values, weights) in self.features(outputs).items():
            if name.startswith("teacher/"):
                continue
            flat = values.astype(jnp.float32).reshape((*place.shape, -1))
            at_token = weights * jnp.sum(flat * slopes[name][place], axis=-1)
            constant = jnp.sum(slopes[name] * outputs.statistics[name])
            total = total + at_token - constant
        return total
