"""Direct preference optimization, and its relatives with another outer function."""

import dataclasses

from losses.core.outputs import Outputs
from losses.functional import preference
from losses.preference.pairs import (
    ReferencePairLoss,
    check_positive,
    check_smoothing,
)
from losses.preference.sequences import Rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPO(ReferencePairLoss):
    """`-(1-ε) log σ(βh) - ε log σ(-βh)`, nats a pair; log 2 where q = p.

    `h = log q(y_w)/p(y_w) - log q(y_l)/p(y_l)` of sums of log-probabilities. With
    `over="mean"` it is the length-normalized form of delta learning, β = 5 there.

    Source: Rafailov et al. 2023 (arXiv:2305.18290), eq. 7, β = 0.1. ε: Mitchell 2023,
    cDPO. Delta learning: arXiv:2507.06187; chosen by the stronger of two weak models.

    Attributes:
      beta: β.
      label_smoothing: ε, the share of pairs that are the wrong way round.

    Raises:
      ValueError: as `ReferencePairLoss`; β is not positive, or ε outside [0, 1/2).
    """

    beta: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_positive("beta", self.beta)
        check_smoothing(self.label_smoothing)

    def of_pairs(self, outputs: Outputs) -> Rows:
        student, reference = self.sides(outputs)
        return preference.dpo(
            *student,
            *reference,
            beta=self.beta,
            label_smoothing=self.label_smoothing,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class IPO(ReferencePairLoss):
    """`(h - 1/(2β))²`, nats² a pair, h as of `DPO`.

    It has its least value at a finite h, so that sure preferences do not drive the
    student away from the reference without end.

    Source: Azar et al. 2023 (arXiv:2310.12036), eq. 17, where β is τ. TRL takes
    `over="mean"`, the paper the sum.

    Attributes:
      beta: β.

    Raises:
      ValueError: as `ReferencePairLoss`, or β is not positive.
    """

    beta: float = 0.1
    unit = "nats²"

    def __post_init__(self):
        super().__post_init__()
        check_positive("beta", self.beta)

    def of_pairs(self, outputs: Outputs) -> Rows:
        student, reference = self.sides(outputs)
        return preference.ipo(*student, *reference, beta=self.beta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HingeDPO(ReferencePairLoss):
    """`max(0, 1 - βh)` a pair, h as of `DPO`.

    Source: Liu et al. 2023, RSO (arXiv:2309.06657), section 3.2; after SLiC
    (arXiv:2305.10425).

    Attributes:
      beta: β, one over the margin.

    Raises:
      ValueError: as `ReferencePairLoss`, or β is not positive.
    """

    beta: float = 0.1
    unit = "1"

    def __post_init__(self):
        super().__post_init__()
        check_positive("beta", self.beta)

    def of_pairs(self, outputs: Outputs) -> Rows:
        student, reference = self.sides(outputs)
        return preference.hinge_dpo(*student, *reference, beta=self.beta)
