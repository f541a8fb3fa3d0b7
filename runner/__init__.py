"""The runner: a graph in, a trained student out. `runner --help` says how.

Names are imported when they are first used, so that `runner --help` and mistakes on
the command line are answered before jax is imported.
"""

from typing import TYPE_CHECKING

from runner import lazy_names

if TYPE_CHECKING:
    from runner.evaluation.evaluation import Evaluation
    from runner.experiment import Experiment
    from runner.recording.job import RecordTeacher
    from runner.teachers import (
        EMATeacher,
        EnsembleTeacher,
        FusedTeacher,
        OfflineTeacher,
        OnlineTeacher,
    )

_HOMES = {
    "EMATeacher": "teachers",
    "EnsembleTeacher": "teachers",
    "Evaluation": "evaluation.evaluation",
    "Experiment": "experiment",
    "FusedTeacher": "teachers",
    "OfflineTeacher": "teachers",
    "OnlineTeacher": "teachers",
    "RecordTeacher": "recording.job",
}

__all__ = [
    "EMATeacher",
    "EnsembleTeacher",
    "Evaluation",
    "Experiment",
    "FusedTeacher",
    "OfflineTeacher",
    "OnlineTeacher",
    "RecordTeacher",
]

__getattr__ = lazy_names.names(__name__, _HOMES)
