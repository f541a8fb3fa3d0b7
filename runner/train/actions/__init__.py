"""What a loop does beside stepping: CLU periodic actions.

Observers are handed the fetched metrics of every step, in order:

    for act in (StopOnNan(...), Log(...), Progress(...)):
        act(step, metrics=metrics, rows=rows)

State actions are handed the state when they are due (and nothing else is computed for
them before that):

    if any(act.due(step) for act in (evaluate, samples, checkpoint)):
        ...fetch and observe the metrics of `step`...
        for act in (evaluate, samples, checkpoint):
            act(step, state=state)
"""

from runner.train.actions.diagnose import Diagnose
from runner.train.actions.on_metrics import Log, Progress, StopOnNan
from runner.train.actions.on_state import Checkpoint, Evaluate, Profile, Sample, Samples
from runner.train.actions.parameter_table import parameter_table, write_parameters
from runner.train.actions.periodic import Action

__all__ = [
    "Action",
    "Checkpoint",
    "Diagnose",
    "Evaluate",
    "Log",
    "Profile",
    "Progress",
    "Sample",
    "Samples",
    "StopOnNan",
    "parameter_table",
    "write_parameters",
]
