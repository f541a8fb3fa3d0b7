"""Divergences between teacher and student of powers of their ratio, and of its size.

`p` is the teacher's distribution, `q` the student's, both at the loss's temperature.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from losses.core.outputs import PerToken
from losses.distillation.alignment import Entries
from losses.distillation.divergence import Divergence
from losses.distillation.kl import kl


@dataclasses.dataclass(frozen=True, kw_only=True)
class TotalVariation(Divergence):
    """`1/2 Σ_v |p_v - q_v|`, in [0, 1], no unit.

    Its gradient is bounded and, where p = q, taken as 0.

    Source: Wen et al. 2023, f-DISTILL (arXiv:2307.15190), section 3.
    """

    def between(self, entries: Entries) -> PerToken:
        difference = jnp.exp(entries.log_p) - jnp.exp(entries.log_q)
        return 0.5 * jnp.sum(jnp.abs(difference), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlphaDivergence(Divergence):
    """`Σ_v (a p_v + (1-a) q_v - p_v^a q_v^(1-a)) / (a (1-a))`, nats, a being `order`.

    Where p and q sum to 1 it is `(1 - Σ p^a q^(1-a)) / (a (1-a))`; in this form each
    term is at least 0, over any entries. The limits are taken at the ends: order 1 is
    `KL(p‖q)`, 0 is `KL(q‖p)`, each with `± (Σp - Σq)`, 0 where both sum to 1. Order
    1/2 is `2 Σ (√p - √q)²`, twice the squared Hellinger distance. Cancellation leaves
    an error of about 1e-7 / (a (1-a)).

    Beyond [0, 1], as for Pearson's χ² (order 2), one `p/q` above e^88 overflows
    float32; `RenyiDivergence` of the same order increases with it and does not.

    Source: Amari's family as in the survey arXiv:2604.00626.

    Raises:
      ValueError: order is outside [0, 1].
    """

    order: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 <= self.order <= 1.0:
            raise ValueError(
                f"order must be in [0, 1], got {self.order}: beyond it values "
                f"overflow; RenyiDivergence increases with it and does not"
            )

    def between(self, entries: Entries) -> PerToken:
        log_p, log_q, _ = entries
        p, q, a = jnp.exp(log_p), jnp.exp(log_q), self.order
        if a == 1.0:
            return kl(log_p, log_q) - jnp.sum(p - q, axis=-1)
        if a == 0.0:
            return kl(log_q, log_p) - jnp.sum(q - p, axis=-1)
        power = jnp.exp(a * log_p + (1.0 - a) * log_q)
        gap = a * p + (1.0 - a) * q - power
        return jnp.sum(gap, axis=-1) / (a * (1.0 - a))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenyiDivergence(Divergence):
    """`1/(a-1) log Σ_v p_v^a q_v^(1-a)`, nats, `a` being `order`; order 1 is `KL(p‖q)`.

    Non-decreasing in the order. The gradient in `s / T` is bounded for every order:
    `q - w` with `w ∝ p^a q^(1-a)`. Cancellation leaves an error of about
    1e-7 / |a - 1|. Truncated entries enter the sum as they are.

    Source: van Erven and Harremoës 2012 (arXiv:1206.2459).

    Raises:
      ValueError: order is not positive and finite.
    """

    order: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.order < math.inf:
            raise ValueError(f"order must be positive, got {self.order}")

    def between(self, entries: Entries) -> PerToken:
        log_p, log_q, _ = entries
        if self.order == 1.0:
            return kl(log_p, log_q)
        powers = self.order * log_p + (1.0 - self.order) * log_q
        return jax.nn.logsumexp(powers, axis=-1) / (self.order - 1.0)
