"""A frozen prior's logits, corrected by the student's where the prior is unsure."""

import dataclasses
from typing import Literal

from losses.core.checks import check_choice, check_finite, check_inner
from losses.core.loss import Loss
from losses.core.of_loss import AsItsLoss
from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.distillation.alignment import teacher_of
from losses.functional.correlation import with_prior


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithPrior(AsItsLoss):
    """`loss` of the logits `t + β / κ · (s - mean_v s) / std_v s`.

    t are the teacher's, a prior that stays as it is; the student s, of other features,
    learns what it lacks. κ is the kurtosis of t, to a power: large where one entry
    stands out, so that a sure prior is corrected less,

        κ = (mean_v ((t_v - mean t) / std t)⁴ / typical)^ρ

    Neither the scale nor the level of s counts. The student's own predictions come
    without the prior; those of both are metrics: `Evaluation(metrics=[WithPrior(
    loss=ZeroOne())])`. Wants whole rows of logits: of records it reads whole ones.

        LossTerm(name="both", loss=WithPrior(loss=CrossEntropy()), weight=0.35)
        own = Standardized(loss=CrossEntropy(), ddof=1)
        LossTerm(name="own", loss=own, weight=0.65)

    Source: AMU-Tuning (arXiv:2404.08958), t of CLIP, s a linear probe of features of
    MoCo v3 that `starts.ClassSums` begins; λ = 0.35, β = 0.5. Its released code takes κ
    of `softmax(t)`, over 250, and its command leaves κ out (ρ = 0).

    Attributes:
      loss: reads logits of the student alone; no means over the batch.
      scale: β.
      power: ρ; 0 weighs every token alike.
      of: the `"logits"` t, as published, or their `"probabilities"`.
      typical: what the kurtosis is divided by.

    Raises:
      ValueError: a number is not finite, `typical` not positive, `power` negative,
        `of` none of these, or `loss` reads no logits, wants means over the batch or
        reads the teacher.
    """

    loss: Loss
    scale: float = 0.5
    power: float = 0.4
    of: Literal["logits", "probabilities"] = "logits"
    typical: float = 1.0
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        check_finite(self)
        check_choice("of", self.of, ("logits", "probabilities"))
        if not self.typical > 0.0:
            raise ValueError(f"typical must be positive, got {self.typical}")
        if self.power < 0.0:
            raise ValueError(f"power must not be negative, got {self.power}")
        if any(path.startswith("teacher/") for path in self.loss.needs):
            raise ValueError("loss of WithPrior must not read the teacher: it has both")

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return self.loss.needs | {"teacher/logits"}

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode != "full":
            raise ValueError("WithPrior wants the teacher's whole logits")
        super().check_records(stored)

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = teacher_of(outputs)
        if teacher.logits is None or teacher.indices is not None:
            raise ValueError("WithPrior wants the teacher's whole logits")
        both = with_prior(
            outputs.logits,
            teacher.logits,
            scale=self.scale,
            power=self.power,
            of=self.of,
            typical=self.typical,
        )
        return self.loss(dataclasses.replace(outputs, logits=both))
