"""The target's standard score among the logits, invariant to their offset and scale."""

import dataclasses
import math

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional import scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandardScore(Loss):
    """`softplus(a (b - z_y)) / a`, with `z_y = (s_y - mean_v s) / sqrt(var_v s + ε)`.

    The paper's name is the Z-loss; `ZLoss` here is PaLM's. It sees the standard score
    of the target alone: `c s + d` gives the same value for any `c > 0`, so that the
    gradient is orthogonal to the logits and to a constant (but for ε), and weight decay
    acts as growth of the learning rate. No score exceeds `sqrt(V - 1)`, and no value is
    below `softplus(a (b - sqrt(V - 1))) / a`. As `a` grows it is the hinge
    `max(0, b - z_y)`. It gives no probabilities: perplexity means nothing.

    Every logit must be finite. By tiles the variance is a difference of means: its
    relative error is about 1e-7 (1 + mean² / var).

    Source: de Brébisson and Vincent 2016 (arXiv:1604.08859).

    Attributes:
      sharpness: a.
      location: b.
      epsilon: under the root, so that equal logits have a finite gradient.

    Raises:
      ValueError: sharpness or epsilon is not positive, or a number not finite.
    """

    sharpness: float = 1.0
    location: float = 0.0
    epsilon: float = 1e-7
    needs = frozenset({"logits"})
    tiled = True
    unit = "1"

    def __post_init__(self):
        for name in ("sharpness", "epsilon"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not math.isfinite(self.location):
            raise ValueError(f"location must be finite, got {self.location}")

    def __call__(self, outputs: Outputs) -> PerToken:
        return scores.standard_score_from_sums(
            outputs.target_logits(),
            outputs.mean_logits(),
            outputs.variance_of_logits(),
            sharpness=self.sharpness,
            location=self.location,
            epsilon=self.epsilon,
        )
