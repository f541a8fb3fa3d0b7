"""Comp-sum losses: cross-entropy between sums of exponentials and absolute error."""

import dataclasses
import math

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional import vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompSum(Loss):
    """`(1 - q_y^(τ-1)) / (τ-1)`, the comp-sum loss of exponent τ.

    `τ = 1` is the cross-entropy, `τ = 0` the sum of exponentials `1/q_y - 1`, `τ = 2`
    is `1 - q_y`, and between 1 and 2 it is the generalized cross-entropy of
    arXiv:1805.07836 with `q = τ - 1`. Its gradient is `q_y^(τ-1)` times that of the
    cross-entropy: above 1 improbable targets, wrong labels among them, pull less; below
    1 they pull more, and a `q_y` of 1e-38 overflows.

    Source: Mao et al. 2023 (arXiv:2304.07288), the family of comp-sum losses.

    Attributes:
      tau: τ.

    Raises:
      ValueError: `tau` is negative or not finite.
    """

    tau: float = 1.5
    needs = frozenset({"logits"})
    tiled = True
    unit = "1"

    def __post_init__(self):
        if not 0.0 <= self.tau < math.inf:
            raise ValueError(f"tau must be at least 0 and finite, got {self.tau}")

    def __call__(self, outputs: Outputs) -> PerToken:
        return vocabulary.comp_sum_from_sums(
            outputs.log_normalizer(), outputs.target_logits(), tau=self.tau
        )
