"""A mixture of forward and reverse KL that each token balances for itself."""

import dataclasses

import jax
import jax.numpy as jnp

from losses.core.outputs import PerToken
from losses.distillation.alignment import Entries
from losses.distillation.divergence import Divergence
from losses.distillation.kl import kl

_TINY = 1e-30


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveKL(Divergence):
    """`w KL(p‖q) + (1 - w) KL(q‖p)`, nats, with `w = gap_head / (gap_head + gap_tail)`.

    By descending p (the teacher), the head is the entries whose cumulative mass is at
    most `head_mass`, and always the first; the tail is the others. `gap` is the sum of
    `|p - q|` over each, without a gradient: early in training forward KL fits the head
    faster and reverse KL the tail, so each counts by what is left to fit.

    Over stored entries the tail bucket comes last whatever its mass, so it is in the
    tail; the weight, unlike the two divergences, may then be above or below the whole
    one. Over whole logits the vocabulary is sorted at each token.

    Source: Wu et al. 2024 (arXiv:2404.02657), head_mass 0.5.

    Raises:
      ValueError: head_mass is outside (0, 1).
    """

    head_mass: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.head_mass < 1.0:
            raise ValueError(f"head_mass must be in (0, 1), got {self.head_mass}")

    def between(self, entries: Entries) -> PerToken:
        log_p, log_q, _ = entries
        weight = self._forward_weight(jax.lax.stop_gradient(entries))
        return weight * kl(log_p, log_q) + (1.0 - weight) * kl(log_q, log_p)

    def _forward_weight(self, entries: Entries) -> jax.Array:
        p, q = jnp.exp(entries.log_p), jnp.exp(entries.log_q)
        n = p.shape[-1]
        place = jax.lax.broadcasted_iota(jnp.int32, p.shape, p.ndim - 1)
        is_rest = (place == n - 1) & entries.rest
        key = jnp.where(is_rest, jnp.inf, -p)
        _, p, gap = jax.lax.sort((key, p, jnp.abs(p - q)), num_keys=1)
        head = (jnp.cumsum(p, axis=-1) <= self.head_mass) | (place == 0)
        in_head = jnp.sum(jnp.where(head, gap, 0.0), axis=-1)
        return in_head / jnp.maximum(jnp.sum(gap, axis=-1), _TINY)
