"""A divergence over the student's own best entries."""

import dataclasses

import jax.numpy as jnp

from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, RecordSpec
from losses.distillation.alignment import Entries, teacher_of
from losses.distillation.divergence import Divergence
from losses.distillation.kl import ReverseKL
from losses.functional.log_probs import log_probabilities, student_best_entries


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverStudentBest(Loss):
    """`loss` over the student's `best` most probable entries and one for the rest.

    The support that a reverse KL looks at: where the student puts its mass. The rest of
    either side is one more entry, as under `tail_bucket`, so that it is 0 where the two
    agree on all of them, and never above the whole divergence where that obeys the
    data-processing inequality. Which entries they are has no gradient.

    Attributes:
      loss: a divergence; its temperature is that of both sides.
      best: k.

    Raises:
      ValueError: `loss` is no divergence, or `best` is below 1.
    """

    loss: Divergence = dataclasses.field(default_factory=ReverseKL)
    best: int = 64

    needs = frozenset({"logits", "teacher/logits"})
    tiled = False

    def __post_init__(self):
        if not isinstance(self.loss, Divergence):
            raise ValueError(
                f"loss of OverStudentBest must be a divergence, got {self.loss!r}"
            )
        if self.best < 1:
            raise ValueError(f"best must be at least 1, got {self.best}")

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode != "full":
            contents = "draws" if stored.mode == "sampled" else "its best entries"
            raise ValueError(
                "OverStudentBest reads the teacher at the student's best entries, and "
                f"the records hold {contents}"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = teacher_of(outputs)
        if teacher.logits is None or teacher.indices is not None:
            raise IncompatibleLoss("OverStudentBest wants the teacher's whole logits")
        temperature = self.loss.temperature
        log_p, log_q = log_probabilities(outputs.logits, teacher.logits, temperature)
        log_p, log_q = student_best_entries(log_p, log_q, best=self.best)
        value = self.loss.divergence(Entries(log_p, log_q, rest=True, partial=True))
        scale = temperature**2 if self.loss.scale_by_temperature_squared else 1.0
        return value * jnp.float32(scale)
