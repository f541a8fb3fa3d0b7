"""Universal logit distillation: probabilities of two vocabularies, by rank."""

import dataclasses

import jax.numpy as jnp

from losses.core.outputs import Outputs, PerToken
from losses.cross_tokenizer.spans import (
    SpanLoss,
    from_last,
    log_probabilities_before_last,
)
from losses.functional import spans

_NEEDS = frozenset(
    {
        "logits",
        "teacher/spans/log_probability_before",
        "teacher/spans/shared_logits",
        "teacher/spans/other_logits",
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ULD(SpanLoss):
    """`Σ_r |q_(r) - p_(r)|`, of probabilities sorted downwards, one value a span.

    In [0, 2]. At the last token of a span, each side's distribution times the
    probability that it gave the span's tokens before it. Which token has a rank is not
    compared: the loss knows how sure the teacher is, not of what.

    Source: Boizard et al. 2024 (arXiv:2402.12030), eq. 5, without the cross-entropy;
    over spans, TRL's `ULDLoss(token_merge_strategy="bayesian")`, value by value. TRL's
    default, `"observed"`, multiplies the distribution after a span's first token by
    probabilities of tokens that were read before them.
    """

    needs = _NEEDS
    unit = "1"

    def __call__(self, outputs: Outputs) -> PerToken:
        shared, other = _teacher_logits(outputs)
        values = spans.uld(
            outputs.logits,
            jnp.concatenate([shared, other], axis=-1),
            student_log_before=log_probabilities_before_last(outputs),
            teacher_log_before=_teacher_log_before(outputs),
        )
        return from_last(values, outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HybridULD(SpanLoss):
    """`w JSD_β(p, q)` over tokens of both vocabularies, plus `u ULD` over the others.

    One value a span. Shared tokens are those of the same bytes of text, or special
    tokens of the same name, and the ends of a document.

    Source: GOLD, TRL's `ULDLoss(uld_use_hybrid_loss=True)`, value by value, with the
    probabilities that `ULD` has; TRL pairs tokens by how vocabularies spell them.

    Attributes:
      beta: β; 0 is `KL(p‖q)`, 1 `KL(q‖p)`, over the shared tokens.
      matched_weight: w; None for the share of the teacher's tokens that are shared.
      unmatched_weight: u; None for 1 - w.

    Raises:
      ValueError: β is outside [0, 1], one weight is None and the other is not, or one
        is negative.
    """

    beta: float = 0.5
    matched_weight: float | None = None
    unmatched_weight: float | None = None

    needs = _NEEDS

    def __post_init__(self):
        if not 0.0 <= self.beta <= 1.0:
            raise ValueError(f"beta must be in [0, 1], got {self.beta}")
        weights = self.matched_weight, self.unmatched_weight
        if (weights[0] is None) != (weights[1] is None):
            raise ValueError(
                "matched_weight and unmatched_weight must both be numbers, or both "
                f"None; got {weights[0]} and {weights[1]}"
            )
        if any(w is not None and not w >= 0.0 for w in weights):
            raise ValueError(
                f"weights must be at least 0, got {weights[0]} and {weights[1]}"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        shared, other = _teacher_logits(outputs)
        weights = None
        if self.matched_weight is not None and self.unmatched_weight is not None:
            weights = self.matched_weight, self.unmatched_weight
        values = spans.hybrid_uld(
            outputs.logits,
            shared,
            other,
            student_log_before=log_probabilities_before_last(outputs),
            teacher_log_before=_teacher_log_before(outputs),
            beta=self.beta,
            weights=weights,
        )
        return from_last(values, outputs)


def _teacher_logits(outputs: Outputs) -> tuple[PerToken, PerToken]:
    shared = outputs.intermediate("teacher/spans/shared_logits")
    return shared, outputs.intermediate("teacher/spans/other_logits")


def _teacher_log_before(outputs: Outputs) -> PerToken:
    return outputs.intermediate("teacher/spans/log_probability_before")
