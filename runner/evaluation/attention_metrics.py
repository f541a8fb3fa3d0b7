"""Metrics of attention scores, with the contract of a loss."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses import Loss, Outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class LargestAttentionLogit(Loss):
    """`max_{layer, head, query, key} s` of a row, the scores before the softmax.

    As a metric (`Evaluation(metrics=[...])`) it is the mean over rows of the largest
    score of each, the same on any mesh. Padding does not count. All scores are held at
    once: layers by heads by the square of a row's length, for a batch.

    Source: Wortsman et al. 2023 (arXiv:2309.14322), section 3.1, the largest of a
    batch; every run that passed 1e4 there diverged.
    """

    needs = frozenset({"attention"})
    scope = "sequence"
    tiled = False
    unit = "1"

    def __call__(self, outputs: Outputs) -> Float[Array, "*b"]:
        scores = outputs.intermediate("attention").astype(jnp.float32)
        largest = jnp.max(scores, axis=(-3, -2, -1))
        if outputs.mask is not None:
            largest = jnp.where(outputs.mask, largest, -jnp.inf)
        of_row = jnp.max(largest, axis=-1, keepdims=True)
        return jnp.broadcast_to(of_row, largest.shape)
