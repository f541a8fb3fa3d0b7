"""Total variation, alpha, alpha-beta and Rényi divergences.

`p` is the teacher's distribution, `q` the student's, both at the loss's temperature.
"""

import dataclasses
import math

from losses.core.outputs import PerToken
from losses.distillation.alignment import Entries
from losses.distillation.divergence import OVER_ENTRIES, BesideZero, Divergence
from losses.functional import log_probs


@dataclasses.dataclass(frozen=True, kw_only=True)
class TotalVariation(Divergence):
    """`1/2 Σ_v |p_v - q_v|`, in [0, 1], no unit.

    Its gradient is bounded and, where p = q, taken as 0.

    Source: Wen et al. 2023, f-DISTILL (arXiv:2307.15190), section 3.
    """

    unit = "1"

    def divergence(self, entries: Entries) -> PerToken:
        return log_probs.total_variation(entries.log_p, entries.log_q)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlphaDivergence(Divergence):
    """`Σ_v (a p_v + (1-a) q_v - p_v^a q_v^(1-a)) / (a (1-a))`, nats, a being `order`.

    Where p and q sum to 1 it is `(1 - Σ p^a q^(1-a)) / (a (1-a))`; in this form each
    term is at least 0, over any entries. The limits are taken at the ends: order 1 is
    `KL(p‖q)`, 0 is `KL(q‖p)`, each with `± (Σp - Σq)`, 0 where both sum to 1. Order
    1/2 is `2 Σ (√p - √q)²`, twice the squared Hellinger distance; order 2 is half of
    Pearson's χ², `1/2 Σ (p - q)²/q`, and order -1 half of Neyman's, `1/2 Σ (p - q)²/p`.
    Cancellation leaves an error of about 1e-7 / (a (1-a)).

    Beyond [0, 1] values and gradients grow as a power of `p/q`. A power above e^40 goes
    on as its tangent, so that float32 does not overflow; `RenyiDivergence` of the same
    order increases with it and has a bounded gradient.

    Source: Amari's family as in the survey arXiv:2604.00626.

    Attributes:
      order: a.

    Raises:
      ValueError: `order` is not finite.
    """

    order: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not math.isfinite(self.order):
            raise ValueError(f"order must be finite, got {self.order}")

    @property
    def beside_zero(self) -> BesideZero:
        return "finite" if self.order > 0.0 else "infinite"

    def divergence(self, entries: Entries) -> PerToken:
        return log_probs.alpha_divergence(
            entries.log_p, entries.log_q, order=self.order
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlphaBetaDivergence(Divergence):
    """`Σ_v (α p_v^s / s + β q_v^s / s - p_v^α q_v^β) / (α β)`, with `s = α + β`.

    Each term is at least 0, and 0 only where `p_v = q_v`, by Young's inequality. At
    `s = 1` it is `AlphaDivergence(order=α)`; towards β = 0 then `KL(p‖q)`, towards
    α = 0 `KL(q‖p)`. It is no f-divergence unless s = 1: entries put together may
    differ by more than apart. Cancellation leaves an error of about 1e-7 / (α β).

    Source: Wang et al. 2025, ABKD (arXiv:2505.04560).

    Attributes:
      alpha: α.
      beta: β.

    Raises:
      ValueError: one is not positive and finite.
    """

    alpha: float = 0.5
    beta: float = 0.5
    unit = "1"

    def __post_init__(self):
        super().__post_init__()
        for name in ("alpha", "beta"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be positive, got {getattr(self, name)}: the limits "
                    f"at alpha + beta = 1 are ForwardKL (beta 0), ReverseKL (alpha 0)"
                )

    def divergence(self, entries: Entries) -> PerToken:
        return log_probs.alpha_beta_divergence(
            entries.log_p, entries.log_q, alpha=self.alpha, beta=self.beta
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenyiDivergence(Divergence):
    """`1/(a-1) log Σ_v p_v^a q_v^(1-a)`, nats, `a` being `order`; order 1 is `KL(p‖q)`.

    Non-decreasing in the order. The gradient in `s / T` is bounded for every order:
    `q - w` with `w ∝ p^a q^(1-a)`. Cancellation leaves an error of about
    1e-7 / |a - 1|. It is no sum over entries, so that no part of it can be left out:
    `sparse="truncate"` is refused.

    Source: van Erven and Harremoës 2012 (arXiv:1206.2459).

    Attributes:
      order: a.

    Raises:
      ValueError: `order` is not positive and finite.
    """

    order: float = 0.5

    conventions = tuple(name for name in OVER_ENTRIES if name != "truncate")

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.order < math.inf:
            raise ValueError(f"order must be positive, got {self.order}")

    @property
    def beside_zero(self) -> BesideZero:
        return "nothing"

    def divergence(self, entries: Entries) -> PerToken:
        return log_probs.renyi_divergence(
            entries.log_p, entries.log_q, order=self.order
        )
