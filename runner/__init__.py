"""The runner: a graph in, a trained student out. `runner --help` says how.

Names are imported when they are first used, so that `runner --help` and mistakes on
the command line are answered before jax is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.evaluation import Evaluation
    from runner.experiment import Experiment
    from runner.recording import RecordTeacher
    from runner.teachers import (
        EmaTeacher,
        EnsembleTeacher,
        FusedTeacher,
        OfflineTeacher,
        OnlineTeacher,
    )

_HOMES = {
    "EmaTeacher": "runner.teachers",
    "EnsembleTeacher": "runner.teachers",
    "Evaluation": "runner.evaluation",
    "Experiment": "runner.experiment",
    "FusedTeacher": "runner.teachers",
    "OfflineTeacher": "runner.teachers",
    "OnlineTeacher": "runner.teachers",
    "RecordTeacher": "runner.recording",
}

__all__ = [
    "EmaTeacher",
    "EnsembleTeacher",
    "Evaluation",
    "Experiment",
    "FusedTeacher",
    "OfflineTeacher",
    "OnlineTeacher",
    "RecordTeacher",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'runner' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
