"""Losses of preference pairs without a reference: SimPO and ORPO."""

import dataclasses
import math

from losses.core.outputs import Outputs
from losses.functional import preference
from losses.preference.pairs import PairLoss, check_positive, check_smoothing
from losses.preference.sequences import Rows, log_probabilities, of_sequences


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimPO(PairLoss):
    """`-log σ(β (l_w - l_l) - γ)`, nats a pair, l being means of log-probabilities.

    Source: Meng et al. 2024 (arXiv:2405.14734), eq. 6; β of 2 to 2.5, γ of 0.5 to 1.6.
    Label smoothing is TRL's.

    Attributes:
      beta: β.
      margin: γ.
      label_smoothing: as of `DPO`.

    Raises:
      ValueError: β is not positive, γ not finite, or the smoothing outside [0, 1/2).
    """

    beta: float = 2.0
    margin: float = 0.5
    label_smoothing: float = 0.0
    tiled = True

    def __post_init__(self):
        check_positive("beta", self.beta)
        check_smoothing(self.label_smoothing)
        if not math.isfinite(self.margin):
            raise ValueError(f"margin must be finite, got {self.margin}")

    def of_pairs(self, outputs: Outputs) -> Rows:
        student = of_sequences(log_probabilities(outputs), outputs, "mean")
        return preference.simpo(
            *student,
            beta=self.beta,
            margin=self.margin,
            label_smoothing=self.label_smoothing,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OddsRatio(PairLoss):
    """`-log σ(log odds(y_w) - log odds(y_l))`, nats a pair: ORPO's second part.

    `odds = P / (1 - P)`, `log P` being the mean of a completion's log-probabilities.
    The first part is the cross-entropy of the chosen:

        LossTerm(name="ce", loss=losses.CrossEntropy(), mask=losses.chosen_mask),
        LossTerm(name="odds", loss=losses.OddsRatio(), weight=0.1),

    Source: Hong et al. 2024, ORPO (arXiv:2403.07691), eq. 6 and 7, λ = 0.1. TRL's first
    part counts the tokens of the prompt too.
    """

    tiled = True

    def of_pairs(self, outputs: Outputs) -> Rows:
        student = of_sequences(log_probabilities(outputs), outputs, "mean")
        return preference.odds_ratio(*student)
