"""Teachers: models on the devices, mixtures of them, or records of their outputs.

A node of the graph (`Teacher`) is declared for free and `load`ed for a run; what comes
of it (`Loaded`) is a pure function of arrays, called inside the step. Names are
imported when they are first used, orbax when the first run's weights are read.
"""

from typing import TYPE_CHECKING

from runner import lazy_names

if TYPE_CHECKING:
    from runner.teachers.base import Lesson, Loaded, Setting, Teacher
    from runner.teachers.combined import EnsembleTeacher, FusedTeacher
    from runner.teachers.ema import EmaTeacher
    from runner.teachers.offline import OfflineTeacher
    from runner.teachers.online import OnlineTeacher

_HOMES = {
    "EmaTeacher": "ema",
    "EnsembleTeacher": "combined",
    "FusedTeacher": "combined",
    "Lesson": "base",
    "Loaded": "base",
    "OfflineTeacher": "offline",
    "OnlineTeacher": "online",
    "Setting": "base",
    "Teacher": "base",
}

__all__ = [
    "EmaTeacher",
    "EnsembleTeacher",
    "FusedTeacher",
    "Lesson",
    "Loaded",
    "OfflineTeacher",
    "OnlineTeacher",
    "Setting",
    "Teacher",
]

__getattr__ = lazy_names.names(__name__, _HOMES)
