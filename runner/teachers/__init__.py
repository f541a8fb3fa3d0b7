"""Teachers: models on the devices, mixtures of them, or records of their outputs.

A node of the graph (`Teacher`) is declared for free and `load`ed for a run; what comes
of it (`LoadedTeacher`) is a pure function of arrays, called inside the step. Names are
imported when they are first used, orbax when the first run's weights are read.
"""

from typing import TYPE_CHECKING

from runner import lazy_names

if TYPE_CHECKING:
    from runner.teachers.base import (
        LoadedTeacher,
        Teacher,
        TeacherContext,
        TeacherTrunk,
    )
    from runner.teachers.combined import EnsembleTeacher, FusedTeacher
    from runner.teachers.ema import EMATeacher
    from runner.teachers.offline import OfflineTeacher
    from runner.teachers.online import OnlineTeacher

_HOMES = {
    "EMATeacher": "ema",
    "EnsembleTeacher": "combined",
    "FusedTeacher": "combined",
    "TeacherTrunk": "base",
    "LoadedTeacher": "base",
    "OfflineTeacher": "offline",
    "OnlineTeacher": "online",
    "TeacherContext": "base",
    "Teacher": "base",
}

__all__ = [
    "EMATeacher",
    "EnsembleTeacher",
    "FusedTeacher",
    "LoadedTeacher",
    "OfflineTeacher",
    "OnlineTeacher",
    "Teacher",
    "TeacherContext",
    "TeacherTrunk",
]

__getattr__ = lazy_names.names(__name__, _HOMES)
