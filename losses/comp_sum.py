"""Comp-sum losses: cross-entropy between sums of exponentials and absolute error."""

import dataclasses
import math

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional import vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompSum(Loss):
    """`(1 - q_y^(τ-1)) / (τ-1)` with `q = softmax(s / ρ)`: the comp-sum loss of τ.

    `τ = 1` is the cross-entropy, `τ = 0` the sum of exponentials `1/q_y - 1`, `τ = 2`
    is `1 - q_y`, and between 1 and 2 it is the generalized cross-entropy of
    arXiv:1805.07836, eq. 6, with `q = τ - 1`. Its gradient is `q_y^(τ-1)` times that of
    the cross-entropy: above 1 improbable targets, wrong labels among them, pull less;
    below 1 they pull more, and a `q_y` of 1e-38 overflows.

    With `MarginShift` of an attacked view beside it, at a weight of
    `√(classes - 1) / ρ` and more, it is the smooth adversarial comp-sum loss: an upper
    bound of the adversarial margin loss `(1 - (1 + u)^(1-τ)) / (τ-1)`, with
    `u = Σ_v min(max(0, 1 - d_v / ρ), 1)` of the margins d at the view's worst input.

    Source: Mao et al. 2023 (arXiv:2304.07288), the family of comp-sum losses and
    their smooth adversarial form.

    Attributes:
      tau: τ.
      margin: ρ, which divides the margins `s_y - s_v`.

    Raises:
      ValueError: `tau` is negative, `margin` not positive, or one not finite.
    """

    tau: float = 1.5
    margin: float = 1.0
    needs = frozenset({"logits"})
    tiled = True
    unit = "1"

    def __post_init__(self):
        if not 0.0 <= self.tau < math.inf:
            raise ValueError(f"tau must be at least 0 and finite, got {self.tau}")
        if not 0.0 < self.margin < math.inf:
            raise ValueError(f"margin must be positive and finite, got {self.margin}")

    def __call__(self, outputs: Outputs) -> PerToken:
        return vocabulary.comp_sum_from_sums(
            outputs.log_normalizer(self.margin),
            outputs.target_logits() / self.margin,
            tau=self.tau,
        )
