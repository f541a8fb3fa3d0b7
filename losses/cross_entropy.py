"""Cross-entropy against the targets, plain and label-smoothed."""

import dataclasses

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional import vocabulary


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Loss):
    """`log Z - s_y`, nats: the negative log-probability of the target.

    `Z = Σ_v exp s_v`.
    """

    needs = frozenset({"logits"})
    tiled = True

    def __call__(self, outputs: Outputs) -> PerToken:
        return vocabulary.cross_entropy_from_sums(
            outputs.log_normalizer(), outputs.target_logits()
        )


@dataclasses.dataclass(frozen=True)
class SmoothedCrossEntropy(Loss):
    """`log Z - (1 - ε) s_y - ε/V Σ_v s_v`, nats: targets mixed with the uniform.

    The target distribution is `(1 - ε) onehot(y) + ε/V`, the convention of
    `optax.smooth_labels`. Every logit must be finite.

    Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7.

    Attributes:
      epsilon: ε.

    Raises:
      ValueError: `epsilon` is outside [0, 1).
    """

    epsilon: float = 0.1
    needs = frozenset({"logits"})
    tiled = True

    def __post_init__(self):
        if not 0.0 <= self.epsilon < 1.0:
            raise ValueError(f"epsilon must be in [0, 1), got {self.epsilon}")

    def __call__(self, outputs: Outputs) -> PerToken:
        mean = outputs.mean_logits()
        target = outputs.target_logits()
        return vocabulary.smoothed_cross_entropy_from_sums(
            outputs.log_normalizer(), target, mean, epsilon=self.epsilon
        )
