"""Logit standardization: mean 0 and variance 1 over the vocabulary, for any loss."""

import dataclasses
import math
from typing import Literal

from jaxtyping import Array, Float

from losses.core.checks import check_inner
from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.distillation.alignment import teacher_of
from losses.functional.correlation import standardize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standardized(OfLoss):
    """`loss` of `(x - mean_v x) / sqrt(var_v x + ε)` for the logits x of either side.

    So it sees their shape alone: `a x + c` gives the same value for any `a > 0`, and
    the gradient is orthogonal to the student's logits and to a constant (but for ε).
    The temperature is that of `loss`; the scale of the student's logits is left to
    other terms.

    Entries of -inf stay, and are left out of mean and variance; where the widths
    differ, both are cut to `min(V_student, V_teacher)`. Wants whole rows: of records
    it reads whole ones alone.

    Source: Sun et al. 2024 (arXiv:2403.01427), algorithms 1 and 2, with
    `ForwardKL(temperature=2.0, scale_by_temperature_squared=True)`; weights 9, and 0.1
    on the cross-entropy.

    Attributes:
      loss: reads `logits`; no means over the batch.
      ddof: subtracted from V in the variance. 0, the population's, as the paper has
        it; 1, Bessel's, as its code has it: at a temperature T that is the paper at
        `T sqrt(V / (V - 1))`, but for a factor of T².
      epsilon: under the root, so that equal logits have a finite gradient (a head that
        starts from zeros has them); the code adds 1e-7 to the root instead.

    Raises:
      ValueError: ddof is neither 0 nor 1, epsilon is not positive, or `loss` reads no
        logits or wants means over the batch.
    """

    loss: Loss
    ddof: Literal[0, 1] = 0
    epsilon: float = 1e-7

    def __post_init__(self):
        if self.ddof not in (0, 1):
            raise ValueError(f"ddof must be 0 or 1, got {self.ddof}")
        if not 0.0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon must be positive, got {self.epsilon}")
        check_inner(self, self.loss)

    def check_records(self, stored: RecordSpec) -> None:
        if self._reads_teacher and stored.mode != "full":
            contents = "draws" if stored.mode == "sampled" else "the best entries"
            raise ValueError(
                f"Standardized wants the mean and variance of the teacher's whole "
                f"logits, and the records hold {contents}"
            )
        super().check_records(stored)

    def __call__(self, outputs: Outputs) -> PerToken:
        student, teacher = outputs.logits, outputs.teacher
        if self._reads_teacher:
            teacher = teacher_of(outputs)
            if teacher.logits is None or teacher.indices is not None:
                raise ValueError("Standardized wants the teacher's whole logits")
            width = min(student.shape[-1], teacher.logits.shape[-1])
            student = student[..., :width]
            teacher = dataclasses.replace(
                teacher, logits=self._standardize(teacher.logits[..., :width])
            )
        standardized = dataclasses.replace(
            outputs,
            logits=self._standardize(student),
            teacher=teacher,
        )
        return self.loss(standardized)

    @property
    def _reads_teacher(self) -> bool:
        return "teacher/logits" in self.loss.needs

    def _standardize(self, logits: Float[Array, "*b v"]) -> Float[Array, "*b v"]:
        return standardize(logits, ddof=self.ddof, epsilon=self.epsilon)
