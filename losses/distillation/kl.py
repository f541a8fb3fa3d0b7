"""Kullback-Leibler divergences between teacher and student, and their mixtures.

`p` is the teacher's distribution, `q` the student's, both at the loss's temperature;
`KL(a‖b) = Σ_v a_v log(a_v / b_v)`.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.core.outputs import Outputs, PerToken
from losses.core.tiles import Distribution, Tile
from losses.core.vocab_sums import TiledOutputs
from losses.distillation.alignment import (
    Entries,
    student_log_probabilities,
    teacher_of,
)
from losses.distillation.divergence import (
    OVER_ENTRIES,
    BesideZero,
    Divergence,
    always_zero,
)
from losses.functional import log_probs
from losses.functional.divergences import sampled_cross_entropy
from losses.functional.log_probs import FLOOR


def kl_of_sums(outputs: TiledOutputs, a: Distribution, b: Distribution) -> PerToken:
    """Return `E_a[x_a - x_b] - log Z_a + log Z_b`, nats, `[*b]`; x are scores.

    Of entries that are impossible in b, `log b` is `FLOOR`; `lost` is their mass in a.
    """

    def impossible(tile: Tile) -> Bool[Array, "*b n"]:
        return b.scores(tile) == -jnp.inf

    def gap(tile: Tile) -> Float[Array, "*b n"]:
        x_a = a.scores(tile)
        x_a = jnp.where(x_a == -jnp.inf, 0.0, x_a)
        return x_a - jnp.where(impossible(tile), 0.0, b.scores(tile))

    lost = outputs.expected(a, lambda tile: impossible(tile).astype(jnp.float32))
    log_z_b = (1.0 - lost) * outputs.normalizer_of(b) - lost * FLOOR
    return outputs.expected(a, gap) + log_z_b - outputs.normalizer_of(a)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardKL(Divergence):
    """`KL(p‖q)`, nats; mass-covering: the student spreads over all likely entries.

    The teacher's entropy is in it, so it is 0 at p = q; the gradient in `s / T` is
    `q - p`, that of the cross-entropy with soft targets.

    With `sparse="sampled"`, from n ids drawn from p and the stored `H(p)`, both
    at T: `-1/n Σ_i log q_{x_i} - H(p)`. Its expectation is the whole divergence and
    that of its gradient `q - p`; one value may be negative.

    Source: Hinton et al. 2015 (arXiv:1503.02531), section 2. Draws: Anshumann et al.
    2025 (arXiv:2503.16870).
    """

    conventions = (*OVER_ENTRIES, "sampled")

    @property
    def beside_zero(self) -> BesideZero:
        return "nothing"

    def divergence(self, entries: Entries) -> PerToken:
        log_p, log_q = entries.log_p, entries.log_q
        return log_probs.kl(log_p, log_q, partial=entries.partial)

    def divergence_from_sums(
        self, outputs: TiledOutputs, p: Distribution, q: Distribution
    ) -> PerToken:
        return kl_of_sums(outputs, p, q)

    def divergence_from_samples(self, outputs: Outputs) -> PerToken:
        teacher = teacher_of(outputs)
        if teacher.indices is None or self.temperature not in teacher.entropies:
            stored = ", ".join(map(str, sorted(teacher.entropies))) or "none"
            raise ValueError(
                f"the teacher gives no draws with their entropy at temperature "
                f"{self.temperature}; stored: {stored}"
            )
        log_q = student_log_probabilities(outputs, teacher.indices, self.temperature)
        return sampled_cross_entropy(log_q) - teacher.entropies[self.temperature]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseKL(Divergence):
    """`KL(q‖p)`, nats; mode-seeking: the student avoids the teacher's unlikely entries.

    Exact over the vocabulary at each token, given the prefix; not the sequence-level
    objective of the source, which samples whole answers.

    Source: Gu et al. 2023, MiniLLM (arXiv:2306.08543), section 2.
    """

    @property
    def beside_zero(self) -> BesideZero:
        return "infinite"

    def divergence(self, entries: Entries) -> PerToken:
        log_p, log_q = entries.log_p, entries.log_q
        return log_probs.kl(log_q, log_p, partial=entries.partial)

    def divergence_from_sums(
        self, outputs: TiledOutputs, p: Distribution, q: Distribution
    ) -> PerToken:
        return kl_of_sums(outputs, q, p)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymmetricKL(Divergence):
    """`(1 - w) KL(p‖q) + w KL(q‖p)`, nats, `w` being `reverse_weight`.

    At the default 1/2 it is half of Jeffreys' `KL(p‖q) + KL(q‖p)`.

    Source: Ko et al. 2024, DistiLLM (arXiv:2402.03898), whose code has w = 0.9.

    Attributes:
      reverse_weight: w.

    Raises:
      ValueError: `reverse_weight` is outside [0, 1].
    """

    reverse_weight: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 <= self.reverse_weight <= 1.0:
            raise ValueError(
                f"reverse_weight must be in [0, 1], got {self.reverse_weight}"
            )

    @property
    def beside_zero(self) -> BesideZero:
        return "nothing" if always_zero(self.reverse_weight) else "infinite"

    def divergence(self, entries: Entries) -> PerToken:
        return log_probs.symmetric_kl(
            entries.log_p,
            entries.log_q,
            reverse_weight=self.reverse_weight,
            partial=entries.partial,
        )

    def divergence_from_sums(
        self, outputs: TiledOutputs, p: Distribution, q: Distribution
    ) -> PerToken:
        forward, reverse = kl_of_sums(outputs, p, q), kl_of_sums(outputs, q, p)
        return log_probs.mix_directions(forward, reverse, self.reverse_weight)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JensenShannon(Divergence):
    """`β KL(p‖m) + (1 - β) KL(q‖m)` with `m = β p + (1 - β) q`, nats.

    β is the teacher's share, as in the source. At most `-β log β - (1-β) log(1-β)`,
    `log 2` at 1/2. It tends to 0 as β tends to 0 or 1; divided by β it tends to
    `KL(p‖q)` at 0, divided by `1 - β` to `KL(q‖p)` at 1. TRL's `generalized_jsd_loss`
    jumps there: at exactly 0 it is the whole forward KL, at exactly 1 the reverse. So 0
    and 1 are refused: `ForwardKL` and `ReverseKL` say which is meant.

    Source: Agarwal et al. 2023, GKD (arXiv:2306.13649), section 2.

    Attributes:
      beta: β.

    Raises:
      ValueError: `beta` is outside (0, 1).
    """

    beta: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.beta < 1.0:
            raise ValueError(
                f"beta must be in (0, 1), got {self.beta}: at 0 and 1 this divergence "
                f"is 0; for what it is proportional to near them, take ForwardKL (0) "
                f"or ReverseKL (1)"
            )

    def divergence(self, entries: Entries) -> PerToken:
        return log_probs.jensen_shannon(entries.log_p, entries.log_q, beta=self.beta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkewForwardKL(Divergence):
    """`KL(p ‖ α p + (1 - α) q)`, nats, `α` being `skew`; 0 is the forward KL.

    At most `-log α`, and so are its gradients bounded.

    Source: Ko et al. 2024, DistiLLM (arXiv:2402.03898), section 3, α = 0.1; its code
    leaves the teacher's entropy out, which shifts the value alone.

    Attributes:
      skew: α.

    Raises:
      ValueError: `skew` is outside [0, 1).
    """

    skew: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        _check_skew(self.skew)

    @property
    def beside_zero(self) -> BesideZero:
        return "nothing"

    def divergence(self, entries: Entries) -> PerToken:
        log_p, log_q = entries.log_p, entries.log_q
        return log_probs.skew_kl(log_p, log_q, skew=self.skew, partial=entries.partial)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkewReverseKL(Divergence):
    """`KL(q ‖ (1 - α) p + α q)`, nats, `α` being `skew`; 0 is the reverse KL.

    At most `-log α`: an entry impossible to the teacher costs a bounded amount.

    Source: Ko et al. 2024, DistiLLM (arXiv:2402.03898), section 3, α = 0.1.

    Attributes:
      skew: α.

    Raises:
      ValueError: `skew` is outside [0, 1).
    """

    skew: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        _check_skew(self.skew)

    @property
    def beside_zero(self) -> BesideZero:
        return "infinite" if always_zero(self.skew) else "finite"

    def divergence(self, entries: Entries) -> PerToken:
        log_p, log_q = entries.log_p, entries.log_q
        return log_probs.skew_kl(log_q, log_p, skew=self.skew, partial=entries.partial)


def _check_skew(skew: float) -> None:
    if not 0.0 <= skew < 1.0:
        raise ValueError(f"skew must be in [0, 1), got {skew}")
