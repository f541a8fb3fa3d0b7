"""Plackett-Luce distillation: the teacher's ranking of the vocabulary."""

import dataclasses

from losses.core.outputs import Outputs, PerToken
from losses.distillation.decoupled import Targeted
from losses.functional import log_probs_targeted


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlackettLuce(Targeted):
    """`Σ_k p_{π_k} (log Σ_{l≥k} exp s_{π_l} - s_{π_k})`, nats.

    π is the target, then all other entries by descending teacher logit, ties by id;
    `p = softmax(t / T)`, while the student has no temperature. Each step is the
    cross-entropy of choosing entry k among those not chosen yet. A label that the
    teacher finds unlikely weighs as little. It is no divergence: at q = p the gradient
    still raises the first of the ranking.

    With `target="teacher"`, π is the teacher's own order. Over its best k entries the
    sum then ends at k, and so is at most the whole one; log-normalisers are wanted at 1
    and at T.

    Source: PLD (arXiv:2506.12542), T = 1 on ImageNet, 4 on CIFAR-100; in place of the
    cross-entropy, not beside it.
    """

    @property
    def temperatures(self) -> tuple[float, ...]:
        return (1.0, self.temperature)

    def __call__(self, outputs: Outputs) -> PerToken:
        entries = self.entries(outputs, self.temperature)
        value = log_probs_targeted.plackett_luce(
            entries.log_p,
            self.entries(outputs, 1.0).log_q,
            self.is_target(outputs, entries),
            rest=entries.rest,
        )
        return self._scaled(value)
