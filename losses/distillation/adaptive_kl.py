"""Adaptive mixtures of forward and reverse KL, balanced at each token or entry."""

import dataclasses

from losses.core.outputs import PerToken
from losses.distillation.alignment import Entries
from losses.distillation.divergence import BesideZero, Divergence
from losses.functional import log_probs


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveKL(Divergence):
    """`w KL(p‖q) + (1 - w) KL(q‖p)`, nats, with `w = gap_head / (gap_head + gap_tail)`.

    By descending p (the teacher), the head is the entries whose cumulative mass is at
    most `head_mass`, and always the first; the tail is the others. `gap` is the sum of
    `|p - q|` over each, without a gradient: early in training forward KL fits the head
    faster and reverse KL the tail, so each counts by the gap that remains.

    Over stored entries the tail bucket comes last whatever its mass, so it is in the
    tail; the weight, unlike the two divergences, may then be above or below the whole
    one. Over whole logits the vocabulary is sorted at each token.

    Source: Wu et al. 2024 (arXiv:2404.02657), head_mass 0.5.

    Attributes:
      head_mass: the cumulative mass of the head.

    Raises:
      ValueError: `head_mass` is outside (0, 1).
    """

    head_mass: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.head_mass < 1.0:
            raise ValueError(f"head_mass must be in (0, 1), got {self.head_mass}")

    @property
    def beside_zero(self) -> BesideZero:
        return "infinite"

    def divergence(self, entries: Entries) -> PerToken:
        return log_probs.adaptive_kl(
            entries.log_p,
            entries.log_q,
            head_mass=self.head_mass,
            rest=entries.rest,
            partial=entries.partial,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToDi(Divergence):
    """`Σ_v (w_v p_v log(p_v/q_v) + (1 - w_v) q_v log(q_v/p_v))`, nats.

    `w_v = σ(log p_v - log q_v) = p_v / (p_v + q_v)`, without a gradient: entries that
    the student underestimates learn from forward KL, those that it overestimates from
    reverse KL. As `w p - (1 - w) q = p - q`, the value is `KL(p‖q) + KL(q‖p)` (twice
    `SymmetricKL()`), and the gradient alone is another. Each term is at least 0.

    Source: Jung et al. 2025, ToDi (arXiv:2505.16297), a weight an entry, as its
    released code. The survey arXiv:2604.00626 prints one a token.
    """

    @property
    def beside_zero(self) -> BesideZero:
        return "infinite"

    def divergence(self, entries: Entries) -> PerToken:
        return log_probs.todi(entries.log_p, entries.log_q)
