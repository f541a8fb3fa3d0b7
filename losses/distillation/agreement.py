"""Agreement of the best entries of teacher and student: metrics, without a gradient."""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, RecordSpec
from losses.distillation.alignment import teacher_of
from losses.functional.agreement import agreement

Measure = Literal["overlap", "student_mass", "teacher_mass"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement(Loss):
    """Agreement of the `best` most probable entries of both sides, 0 to 1.

    With P and Q the `best` most probable entries of the teacher p and the student q:

    * `overlap`: `|P ∩ Q| / best`; at `best=1`, whether both would say the same token.
    * `student_mass`: `Σ_P q`, what the student has on the teacher's entries.
    * `teacher_mass`: `Σ_Q p`, what the teacher has on the student's.

    It has no gradient: a term of it, at weight 0, is a metric of the training rows,
    over the tokens of its mask. Its weight elsewhere changes the logged total alone.

    Attributes:
      measure: what of them.
      best: k.

    Raises:
      ValueError: there is no such measure, or `best` is below 1.
    """

    measure: Measure = "overlap"
    best: int = 1

    needs = frozenset({"logits", "teacher/logits"})
    unit = "1"
    tiled = False

    def __post_init__(self):
        check_choice("measure", self.measure, get_args(Measure))
        if self.best < 1:
            raise ValueError(f"best must be at least 1, got {self.best}")

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode != "full":
            contents = "draws" if stored.mode == "sampled" else "the best entries"
            raise ValueError(
                "Agreement compares the teacher's whole logits, and the records hold "
                f"{contents}"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = teacher_of(outputs)
        if teacher.logits is None or teacher.indices is not None:
            raise IncompatibleLoss("Agreement wants the teacher's whole logits")
        student_logits = jax.lax.stop_gradient(outputs.logits)
        return agreement(
            student_logits, teacher.logits, measure=self.measure, best=self.best
        ).astype(jnp.float32)
