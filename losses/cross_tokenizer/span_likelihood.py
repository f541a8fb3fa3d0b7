"""Likelihoods of spans, which both tokenizers give exactly."""

import dataclasses
import math
from typing import Literal, get_args

from losses.core.checks import check_choice
from losses.core.outputs import Outputs, PerToken
from losses.cross_tokenizer.spans import SpanLoss, span_log_probabilities
from losses.distillation.divergence import check_temperature
from losses.functional import spans

OfSpans = Literal["kl", "reverse_kl", "total_variation"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanLikelihood(SpanLoss):
    """`D(Bern P^(1/T) ‖ Bern Q^(1/T))`, one value a span.

    In nats, but for the total variation at finite T, which has no unit.

    P and Q are the probabilities that teacher and student give the span's text after
    the text before it: products over its tokens (chain rule), exact whatever the two
    vocabularies. At T = 1 the KL is at most the whole divergence of both over texts of
    that length, and 0 where they agree on this one. The more often a text comes, the
    more of it is learnt.

    At `T = inf` it is the limit of `T D`: of the KL `l (log(l/m)) + m - l` with
    `l = -log P` and `m = -log Q`, of the total variation `|l - m|`.

    Source: Minixhofer et al. 2025, ALM (arXiv:2503.20083), of any f-divergence D; T =
    100 there, which tells unlikely spans apart. `UnitGradient` as the weight of each
    term balances several as there.

    Attributes:
      temperature: T.
      divergence: D: `KL(P‖Q)`, `KL(Q‖P)`, or `|P - Q|`.

    Raises:
      ValueError: the temperature is not positive, or there is no such divergence.
    """

    temperature: float = 1.0
    divergence: OfSpans = "kl"

    needs = frozenset({"logits", "teacher/spans/log_probability"})

    @property
    def unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        plain = self.divergence == "total_variation" and self.temperature != math.inf
        return "1" if plain else "nats"

    def __post_init__(self):
        if self.temperature != math.inf:
            check_temperature(self.temperature)
        check_choice("divergence", self.divergence, get_args(OfSpans))

    def __call__(self, outputs: Outputs) -> PerToken:
        log_p = outputs.intermediate("teacher/spans/log_probability")
        log_q = span_log_probabilities(outputs)
        return spans.span_likelihood(
            log_q, log_p, self.temperature, divergence=self.divergence
        )
