"""A teacher between the student and the real one."""

import dataclasses

import jax

from losses.core.checks import check_inner
from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, RecordSpec
from losses.distillation.alignment import teacher_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpolated(OfLoss):
    """`loss` of a teacher whose logits are `(1 - λ) s + λ t`, without a gradient in s.

    At λ = 1 it is `loss`; at 0 the student is its own teacher, and nothing is learnt.
    As λ rises the target leads from the student to the teacher:

        Scheduled(loss=Interpolated(), field="share", schedule=...)

    is temporally adaptive interpolated distillation but for its adaptation. Where the
    widths differ, both are cut to the ids that both have. Wants whole rows.

    Source: Shing et al. 2025, TAID (arXiv:2501.16937), λ from 0.4 to 1; there λ rises
    faster while the loss falls.

    Attributes:
      loss: compares the student with a teacher; no means over the batch.
      share: λ.

    Raises:
      ValueError: λ is outside [0, 1], or `loss` reads no teacher or wants means.
    """

    loss: Loss
    share: float = 0.4
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        if "teacher/logits" not in self.loss.needs:
            raise ValueError(
                f"loss of Interpolated must read a teacher's logits, and "
                f"{type(self.loss).__name__} does not"
            )
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share must be in [0, 1], got {self.share}")

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode != "full":
            contents = "draws" if stored.mode == "sampled" else "the best entries"
            raise ValueError(
                f"Interpolated wants the teacher's whole logits, and the records hold "
                f"{contents}"
            )
        super().check_records(stored)

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = teacher_of(outputs)
        if teacher.logits is None or teacher.indices is not None:
            raise IncompatibleLoss("Interpolated wants the teacher's whole logits")
        width = min(outputs.num_outputs, teacher.logits.shape[-1])
        student = outputs.logits[..., :width]
        between = (1.0 - self.share) * student + self.share * teacher.logits[
            ..., :width
        ]
        teacher = dataclasses.replace(teacher, logits=jax.lax.stop_gradient(between))
        return self.loss(
            dataclasses.replace(
                outputs, logits=student, teacher=teacher, _log_normalizers={}
            )
        )
