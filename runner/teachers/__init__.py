"""Teachers: models on the devices, mixtures of them, or records of their outputs.

A node of the graph (`Teacher`) is declared for free and `load`ed for a run; what comes
of it (`LoadedTeacher`) is a pure function of arrays, called inside the step. Names are
imported when they are first used, orbax when the first run's weights are read.
"""

from runner import lazy_names

_HOMES = {
    "Aligned": "aligned",
    "ContextTeacher": "context",
    "ContrastedTeacher": "adaptive",
    "DynamicTeacher": "adaptive",
    "EMATeacher": "ema",
    "EnsembleTeacher": "combined",
    "FusedTeacher": "combined",
    "LoadedTeacher": "base",
    "MostConfidentTeacher": "confident",
    "NamedTeachers": "named.teachers",
    "OfflineTeacher": "offline",
    "OnlineTeacher": "online",
    "PromptedTeacher": "prompted",
    "RoutedTeacher": "routed",
    "ScheduledTeacher": "scheduled",
    "ServedTeacher": "served",
    "StartTeacher": "ema",
    "Teacher": "base",
    "TeacherContext": "base",
    "TeacherTrunk": "base",
    "UnlearnedTeacher": "adaptive",
    "ViewTeacher": "around",
}
_RENAMED = {
    "EmaTeacher": "EMATeacher",
    "Lesson": "TeacherTrunk",
    "Loaded": "LoadedTeacher",
    "Setting": "TeacherContext",
}

__getattr__, __all__ = lazy_names.attach(__name__, _HOMES, _RENAMED)
