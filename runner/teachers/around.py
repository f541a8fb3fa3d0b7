"""Teachers that give rows of their own making to another teacher."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from runner.data.dataset import Dataset
from runner.data.joined_rows import Join
from runner.errors import UserError, prefixed
from runner.teachers.base import LoadedTeacher, Teacher

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
    if teacher.columns:
        names = ", ".join(map(repr, sorted(teacher.columns)))
        raise UserError(
            f"teacher: it reads the data's {names}, which belong to other rows than it "
            "gets here; wanted: a model, as OnlineTeacher"
        )
