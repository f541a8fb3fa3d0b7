"""Losses that keep the student unsure: minus its entropy, and KL from uniform."""

import dataclasses

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.core.vocab_sums import TiledOutputs
from losses.functional import vocabulary
from losses.functional.log_probs import floored


@dataclasses.dataclass(frozen=True)
class ConfidencePenalty(Loss):
    """`-H(q) = Σ_v q_v log q_v`, nats, where `q = softmax(s)`.

    At most 0 (a one-hot q), at least `-log V` (a uniform q). An entry of -inf has
    probability 0 and adds nothing.

    Source: Pereyra et al. 2017 (arXiv:1701.06548), section 3.2, weight 0.1.
    """

    needs = frozenset({"logits"})
    tiled = True

    def __call__(self, outputs: Outputs) -> PerToken:
        finite, possible = vocabulary.finite_logits(outputs.logits)
        return vocabulary.negative_entropy(finite, possible, outputs.log_normalizer())

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        q = outputs.student(1.0)
        mean = outputs.expected(q, lambda tile: floored(q.scores(tile)))
        return mean - outputs.normalizer_of(q)


@dataclasses.dataclass(frozen=True)
class UniformKL(Loss):
    """`KL(U || q) = log Z - 1/V Σ_v s_v - log V`, nats, of `q = softmax(s)`.

    0 where q is uniform; its gradient is `q - 1/V`. Every logit must be finite. Where
    `ConfidencePenalty` is bounded by `log V`, one improbable entry costs without end.

    Source: Ji et al. 2024 (arXiv:2406.08607), on what an unlearning assistant retains.
    """

    needs = frozenset({"logits"})
    tiled = True

    def __call__(self, outputs: Outputs) -> PerToken:
        return vocabulary.uniform_kl_from_sums(
            outputs.log_normalizer(), outputs.mean_logits(), size=outputs.num_outputs
        )
