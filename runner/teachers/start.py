"""The student as it was before the first step, as its teacher."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from runner.errors import UserError
from runner.teachers.base import Teacher, TeacherContext
from runner.teachers.ema import LoadedEMA

Tree = Any


@dataclasses.dataclass(frozen=True)
class StartTeacher(Teacher):
    """The student's weights before the first step, frozen: a preference's reference.

    Whatever `Experiment.start` made of them. They are part of the train state: float32,
    sharded like the student, in every checkpoint, so that a run that goes on has the
    same reference. Its trunk runs in every step; columns of its log-probabilities
    (`reference=(...)` of the losses) cost nothing.
    """

    def load(self, context: TeacherContext) -> "LoadedOfStart":
        if context.modules is None:
            raise UserError("a StartTeacher is its student's start: it needs a student")
        return LoadedOfStart(context.modules, 1.0, context.vocabulary.size)

    def init_state(self, student: Tree) -> Tree:
        return student


class LoadedOfStart(LoadedEMA):
    """The student with the arrays that it started from."""

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "start"}
