"""Penalty on the log-normaliser of the output logits."""

import dataclasses

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional import vocabulary


@dataclasses.dataclass(frozen=True)
class ZLoss(Loss):
    """`(log Σ_v exp s_v)²`, nats², one value per token.

    Keeps logits near normalised log-probabilities, where bfloat16 is fine-grained.

    Source: Chowdhery et al. 2022, PaLM (arXiv:2204.02311), section 5, weight 1e-4.
    Not the Z-loss of arXiv:1604.08859.
    """

    needs = frozenset({"logits"})
    tiled = True
    unit = "nats²"

    def __call__(self, outputs: Outputs) -> PerToken:
        return vocabulary.z_loss_from_sums(outputs.log_normalizer())
