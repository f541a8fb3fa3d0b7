"""Bradley-Terry likelihood of pairs, some of which are ties."""

import dataclasses
import math

from losses.core.columns import row_column
from losses.core.outputs import Outputs
from losses.functional import preference
from losses.preference.pairs import ReferencePairLoss, check_positive
from losses.preference.sequences import Rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class BradleyTerry(ReferencePairLoss):
    """`-log σ(d - m)`, of a tie `-log σ(d - m) - log σ(-d - m)`, nats a pair.

    `d = βh` is the difference of the rewards `β log q/p` (h as of `DPO`, which this is
    at m = 0 without ties). Ties are never below `2 log(1 + e^m)`, 6.0972 at m = 3: a
    constant of the likelihood of Rao and Kupper (1967), whose θ is e^m.

    Source: SoliReward (arXiv:2512.22170), m = 3, where the rewards are those of a head;
    its code divides by ties that it leaves out unless a switch is on.

    Attributes:
      beta: β.
      margin: m.
      tie: name of the column (`data.Columns`) that is 1 for pairs of which neither is
        better; None where there are none.

    Raises:
      ValueError: as `ReferencePairLoss`; β is not positive, or m below 0.
    """

    beta: float = 0.1
    margin: float = 0.0
    tie: str | None = None

    def __post_init__(self):
        super().__post_init__()
        check_positive("beta", self.beta)
        if not 0.0 <= self.margin < math.inf:
            raise ValueError(f"margin must be at least 0, got {self.margin}")

    def of_pairs(self, outputs: Outputs) -> Rows:
        student, reference = self.sides(outputs)
        h = (student.first - reference.first) - (student.second - reference.second)
        tie = None if self.tie is None else row_column(outputs.batch, self.tie)
        return preference.bradley_terry(self.beta * h, tie, margin=self.margin)
