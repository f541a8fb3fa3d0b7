"""Weights of rows by their losses beside those of their own group."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.batch_weights import BatchValues, Reweighting
from losses.core.checks import check_finite
from losses.core.columns import row_column

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resampled(Reweighting):
    """`n_g · softmax_{i in g}(-l_i / temperature)` over the rows of each group g.

    n_g rows of the global batch are of group g, a user say; l is the mean of a row's
    values. What has a great loss among its own is likely to be noise, and counts less.
    The mean weight is 1. As the temperature grows all are 1, at 0 the least loss of a
    group has all its weight; a constant in the losses of a group changes nothing, and a
    group of one row has weight 1. Rows without a token that counts, or whose mean is
    not finite, have weight 0, and their group is one smaller.

    Source: Zhang et al. 2025, personalized denoising (arXiv:2502.00348), temperature
    0.1, after 5 epochs, over a pairwise loss: there one of five candidates of a user is
    drawn with these probabilities; here all in the batch count by them, the mean of the
    draws.

    Attributes:
      column: of the rows' groups (`data.Columns`), ids from 0; a row of another id has
        weight 0.
      num_groups: of ids.
      temperature: of the softmax.
      after: steps of the optimiser with all weights 1, to begin with.

    Raises:
      ValueError: temperature is not positive, there is no group, or after is negative.
    """

    column: str
    num_groups: int
    temperature: float = 0.1
    after: int = 0

    def __post_init__(self):
        check_finite(self)
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.num_groups < 1:
            raise ValueError(f"num_groups must be at least 1, got {self.num_groups}")
        if self.after < 0:
            raise ValueError(f"after must not be negative, got {self.after}")

    def __call__(
        self, inputs: BatchValues, memory: Tree
    ) -> tuple[Float[Array, "b ..."], Tree]:
        means, nonempty = inputs.row_means()
        groups = row_column(inputs.batch, self.column).astype(jnp.int32)
        inside = (groups >= 0) & (groups < self.num_groups)
        counts = nonempty & inside & jnp.isfinite(means)
        of = jnp.where(counts, groups, self.num_groups)  # dropped
        over = {"segment_ids": of, "num_segments": self.num_groups}
        scores = jnp.where(counts, -means / self.temperature, -jnp.inf)
        most = jnp.take(jax.ops.segment_max(scores, **over), of, mode="clip")
        mass = jnp.where(counts, jnp.exp(scores - jnp.where(counts, most, 0.0)), 0.0)
        total = jnp.take(jax.ops.segment_sum(mass, **over), of, mode="clip")
        size = jax.ops.segment_sum(counts.astype(jnp.float32), **over)
        share = mass / jnp.where(counts, total, 1.0)
        weights = share * jnp.take(size, of, mode="clip")
        weights = jnp.where(inputs.step < self.after, jnp.ones_like(weights), weights)
        return inputs.to_tokens(weights), memory
