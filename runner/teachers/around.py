"""Teachers that give rows of their own making to another teacher."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from models.base import Batch
from models.views import view_of
from runner.data.dataset import Dataset
from runner.data.joined_rows import Join
from runner.errors import UserError, nearest, prefixed
from runner.teachers.base import (
    LoadedTeacher,
    Teacher,
    TeacherContext,
    TeacherTrunk,
    digest,
)

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class AroundTeacher(Teacher):
    """A teacher around another one, whose state is that one's.

    Attributes:
      teacher: the inner one.
    """

    teacher: Teacher

    def check(self) -> None:
        with prefixed("teacher"):
            self.teacher.check()

    def check_shapes(self) -> None:
        """Nothing: the inner teacher checks its own."""

    def init_state(self, student: Tree) -> Tree:
        return self.teacher.init_state(student)

    def update_state(self, ema: Tree, student: Tree, step: jax.Array) -> Tree:
        return self.teacher.update_state(ema, student, step)


class LoadedAround(LoadedTeacher):
    """The inner teacher loaded: a model, which runs over other rows than the data's.

    Args:
      teacher: the inner one.
    """

    def __init__(self, teacher: LoadedTeacher):
        self.teacher = teacher
        self.abstract, self.cautions = teacher.abstract, teacher.cautions

    def read(self) -> Tree:
        return self.teacher.read()

    def offers(self) -> frozenset[str]:
        return self.teacher.offers()

    def covers(self, dataset: Dataset) -> bool:
        return self.teacher.covers(dataset)

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        """Return what the inner teacher asks of rows that are cut as the data's."""
        return self.teacher.joins(dataset)


def require_model(teacher: LoadedTeacher, *, otherwise: str) -> None:
    """Refuse a teacher that cannot read rows which are not the data's.

    Args:
      teacher: the inner one.
      otherwise: why records, or best entries as `Aligned` gives, will not do.

    Raises:
      UserError: it gives such, or reads columns of the data, which are named.
    """
    if teacher.stored is not None:
        raise UserError(f"teacher: {otherwise}")
    if teacher.views:
        names = ", ".join(map(repr, sorted(teacher.views)))
        raise UserError(
            f"teacher: it sees the student's {names}, a view of other rows than it "
            "gets here; let ViewTeacher be around this one"
        )
    if teacher.columns:
        names = ", ".join(map(repr, sorted(teacher.columns)))
        raise UserError(
            f"teacher: it reads the data's {names}, which belong to other rows than it "
            "gets here; wanted: a model, as OnlineTeacher"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewTeacher(AroundTeacher):
    """A teacher that sees a view of the batch as the student makes it (`models.Views`).

    Under attack, say: the inputs are moved against the student, and what the teacher
    says of those very inputs is taught. All that it gives is of the view. With
    `NamedTeachers` another sees the batch itself.

    Source: the original model in AdvFLYP (arXiv:2604.11576), with `StartTeacher`.

    Attributes:
      teacher: a model.
      view: its name among the student's views.
    """

    view: str

    def identity(self) -> str:
        return digest(f"view {self.view} {self.teacher.identity()}")

    def load(self, context: TeacherContext) -> "LoadedOfView":
        if context.modules is None:
            raise UserError("a ViewTeacher sees what its student does: it needs one")
        views = [name for name, _ in context.modules.abstract_student().views]
        if self.view not in views:
            raise UserError(
                f"teacher: the student has no view {self.view!r}"
                f"{nearest(self.view, views)} (models.Views)"
            )
        teacher = self.teacher.load(context)
        require_model(teacher, otherwise="records are of the batch, not of a view")
        return LoadedOfView(teacher, self.view)


class LoadedOfView(LoadedAround):
    """A model over a view of the student's batch.

    Args:
      teacher: the inner one.
      view: the name of the view.
    """

    def __init__(self, teacher: LoadedTeacher, view: str):
        super().__init__(teacher)
        self._view, self.views = view, frozenset({view})

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        batch = view_of(batch, self._view) or batch  # which it is at radius 0
        return self.teacher.trunk(frozen, ema, batch, capture=capture, logits=logits)

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "view", "view": self._view, "of": self.teacher.describe()}
