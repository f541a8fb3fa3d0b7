"""Flips: tokens that one of two models predicts and the other does not. Metrics."""

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.distillation.alignment import teacher_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flip(Loss, abstract=True):
    """Base of the flips between the teacher, the old model, and the student.

    As a metric (`Evaluation(metrics=[...])`) its mean is a rate of the data; it has no
    gradient. The old model is any teacher that names its most probable entry: another
    run (`runner.OnlineTeacher`), or the student as it started (`StartTeacher`). On the
    same tokens `accuracy_student - accuracy_teacher` is the rate of positive flips
    minus that of negative ones.
    """

    needs = frozenset({"logits", "teacher/logits"})
    tiled = False
    unit = "1"

    @abc.abstractmethod
    def is_flip(
        self, student: Bool[Array, "*b"], teacher: Bool[Array, "*b"]
    ) -> Bool[Array, "*b"]:
        """Return which tokens flip, of those that each side predicts."""

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode == "sampled":
            raise ValueError(
                f"{type(self).__name__} wants the teacher's most probable entry, and "
                "the records hold draws"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        targets = outputs.batch["targets"]
        student = jnp.argmax(outputs.logits, axis=-1) == targets
        teacher = _best(outputs) == targets
        return self.is_flip(student, teacher).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NegativeFlip(Flip):
    """1 where the teacher's most probable entry is the target and the student's is not.

    Its mean is the negative flip rate; over `(1 - error_teacher) · error_student` it is
    the relative one, 1 where the two models' errors are independent.

    Source: Yan et al. 2020 (arXiv:2011.09161); as arXiv:2511.08322 measures updates.
    """

    def is_flip(
        self, student: Bool[Array, "*b"], teacher: Bool[Array, "*b"]
    ) -> Bool[Array, "*b"]:
        return teacher & ~student


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositiveFlip(Flip):
    """1 where the student's most probable entry is the target and the teacher's is not.

    Source: as of `NegativeFlip`.
    """

    def is_flip(
        self, student: Bool[Array, "*b"], teacher: Bool[Array, "*b"]
    ) -> Bool[Array, "*b"]:
        return student & ~teacher


def _best(outputs: Outputs) -> Int[Array, "*b"]:
    """Return the teacher's most probable id, `[*b]`.

    Raises:
      ValueError: it gives draws.
    """
    teacher = teacher_of(outputs)
    if teacher.logits is None:
        raise ValueError("the teacher gives draws, which name no most probable entry")
    if teacher.indices is not None:
        return teacher.indices[..., 0]
    return jnp.argmax(teacher.logits, axis=-1)
