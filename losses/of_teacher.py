"""A loss that reads one of several teachers, by its name."""

import dataclasses

from losses.core.loss import Loss
from losses.core.of_loss import AsItsLoss
from losses.core.outputs import (
    TEACHER,
    FullOutputs,
    Outputs,
    PerToken,
    TeacherOutputs,
    path_of_teacher,
)
from losses.core.term_values import wants_means
from losses.views.paths import named


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfTeacher(AsItsLoss):
    """`loss` with one teacher of a `runner.NamedTeachers`.

    Two teachers at once are two terms. Of an update from an old model to one that knows
    new classes (arXiv:2511.08322), with `token_weight=TeacherCorrect(teacher=...)`:

        OfTeacher(loss=ForwardKL(temperature=5.0), teacher="old", classes=5)
        OfTeacher(loss=ForwardKL(temperature=5.0), teacher="new")

    Attributes:
      loss: reads a teacher; no means over the batch.
      teacher: its name.
      classes: the first outputs, which alone are compared on both sides, as if there
        were no others; None for all. A `loss` that reads the target wants all.

    Raises:
      ValueError: `teacher` is no name, `classes` is below 1, or `loss` is not to be
        inside.
    """

    loss: Loss
    teacher: str
    classes: int | None = None
    tiled = False

    def __post_init__(self):
        if not isinstance(self.loss, Loss) or not any(
            path.startswith(TEACHER) for path in self.loss.needs
        ):
            raise ValueError(
                f"loss of OfTeacher must be one that reads a teacher, got {self.loss!r}"
            )
        if wants_means(self.loss):
            raise ValueError(
                f"loss of OfTeacher must see each token by itself, and "
                f"{type(self.loss).__name__} wants means over the batch"
            )
        if not self.teacher.isidentifier():
            raise ValueError(f"teacher must be a name, got {self.teacher!r}")
        if self.classes is not None and self.classes < 1:
            raise ValueError(f"classes must be at least 1, got {self.classes}")

    @property
    def name(self) -> str:
        """As a metric."""
        return named(self.teacher, self.loss)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return frozenset(
            path_of_teacher(self.teacher, path) if path.startswith(TEACHER) else path
            for path in self.loss.needs
        )

    def __call__(self, outputs: Outputs) -> PerToken:
        assert isinstance(outputs, FullOutputs)  # not tiled
        own = {
            path.removeprefix(TEACHER): outputs.intermediate(
                path_of_teacher(self.teacher, path)
            )
            for path in sorted(self.loss.needs)
            if path.startswith(TEACHER)
        }
        logits, student = own.pop("logits", None), outputs.logits
        if self.classes is not None:
            student = student[..., : self.classes]
            logits = None if logits is None else logits[..., : self.classes]
        return self.loss(
            dataclasses.replace(
                outputs,
                logits=student,
                teacher=TeacherOutputs(logits=logits, intermediates=own),
            )
        )
