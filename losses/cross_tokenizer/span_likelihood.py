"""Likelihoods of spans, which both tokenizers give exactly."""

import dataclasses
import math
from typing import Literal, get_args

from losses.core.checks import check_choice
from losses.core.outputs import Outputs, PerToken
from losses.cross_tokenizer.spans import SpanLoss, span_log_probabilities
from losses.distillation.divergence import check_temperature
from losses.functional import spans

OfSpans = Literal["kl", "reverse_kl", "total_variation", "renyi"]


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
    `l = -log P` and `m = -log Q`, of the total variation `|l - m|`, of Rényi's
    divergence `(l^a m^(1-a) - a l - (1-a) m) / (a-1)`, a being `order`.

    Source: Minixhofer et al. 2025, ALM (arXiv:2503.20083), of any f-divergence D; T =
    100 there, which tells unlikely spans apart. `UnitGradient` as the weight of each
    term balances several as there. Rényi's is of its released code, at T = 1 there.

    Attributes:
      temperature: T.
      divergence: D: `KL(P‖Q)`, `KL(Q‖P)`, `|P - Q|`, or Rényi's,
        `log(P^a Q^(1-a) + (1-P)^a (1-Q)^(1-a)) / (a-1)`.
      order: a; positive and not 1, where it would be the KL.

    Raises:
      ValueError: the temperature or the order is out of its range, or there is no such
        divergence.
    """

    temperature: float = 1.0
    divergence: OfSpans = "kl"
    order: float = 0.5

    needs = frozenset({"logits", "teacher/spans/log_probability"})

    @property
    def unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        plain = self.divergence == "total_variation" and self.temperature != math.inf
        return "1" if plain else "nats"

    def __post_init__(self):
        if self.temperature != math.inf:
            check_temperature(self.temperature)
        check_choice("divergence", self.divergence, get_args(OfSpans))
        if not 0.0 < self.order < math.inf or self.order == 1.0:
            raise ValueError(f"order must be positive and not 1, got {self.order}")

    def __call__(self, outputs: Outputs) -> PerToken:
        log_p = outputs.intermediate("teacher/spans/log_probability")
        log_q = span_log_probabilities(outputs)
        return spans.span_likelihood(
            log_q,
            log_p,
            self.temperature,
            divergence=self.divergence,
            order=self.order,
        )
