"""Dice loss: the overlap of a prediction with its label."""

import dataclasses
import math

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional import scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dice(Loss):
    """`1 - (2 f + γ) / (f + 1 + γ)`, in [0, 1], with `f = (1 - q_y)^α q_y`.

    0 where `q_y = 1` and `α = 0`. The factor `(1 - q_y)^α` is differentiated, as in the
    released code: for `α > 0` the loss *rises* with `q_y` above `1 / (1 + α)`, so that
    sure tokens are pushed back. One value a token; over a whole batch, one minus the F1
    of the probabilities is `AnyLoss(metric="f_beta", sharpness=None)`.

    Source: Li et al. 2019 (arXiv:1911.02855), the self-adjusting form, of the target's
    entry; released settings α = 0.01 and γ = 1.

    Attributes:
      focus: α.
      smoothing: γ.

    Raises:
      ValueError: a number is negative or not finite.
    """

    focus: float = 0.0
    smoothing: float = 1.0
    needs = frozenset({"logits"})
    tiled = True
    unit = "1"

    def __post_init__(self):
        for name in ("focus", "smoothing"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be at least 0 and finite, got {getattr(self, name)}"
                )

    def __call__(self, outputs: Outputs) -> PerToken:
        return scores.dice_from_sums(
            outputs.log_normalizer(),
            outputs.target_logits(),
            focus=self.focus,
            smoothing=self.smoothing,
        )
