"""Likelihoods of spans, which both tokenizers give exactly."""

import dataclasses

from losses.core.outputs import Outputs, PerToken
from losses.cross_tokenizer.spans import SpanLoss, span_log_probabilities
from losses.distillation.divergence import check_temperature
from losses.functional import spans


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanLikelihood(SpanLoss):
    """`KL(Bern P^(1/T) ‖ Bern Q^(1/T))`, nats, one value a span.

    P and Q are the probabilities that teacher and student give the span's text after
    the text before it: products over its tokens (chain rule), exact whatever the two
    vocabularies. At T = 1 it is at most the whole divergence of both over texts of
    that length, and 0 where they agree on this one. The more often a text comes, the
    more of it is learnt.

    Source: Minixhofer et al. 2025, ALM (arXiv:2503.20083), of KL; T = 100 there, which
    tells unlikely spans apart.

    Attributes:
      temperature: T.

    Raises:
      ValueError: the temperature is not positive.
    """

    temperature: float = 1.0

    needs = frozenset({"logits", "teacher/spans/log_probability"})

    def __post_init__(self):
        check_temperature(self.temperature)

    def __call__(self, outputs: Outputs) -> PerToken:
        log_p = outputs.intermediate("teacher/spans/log_probability")
        log_q = span_log_probabilities(outputs)
        return spans.span_likelihood(log_q, log_p, self.temperature)
