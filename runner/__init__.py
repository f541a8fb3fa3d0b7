"""The runner: a graph in, a trained student out. `runner --help` says how.

Names are imported when they are first used, so that `runner --help` and mistakes on
the command line are answered before jax is imported.
"""

from runner import lazy_names

_HOMES = {
    "Aligned": "teachers.aligned",
    "ContextTeacher": "teachers.context",
    "ContrastedTeacher": "teachers.adaptive",
    "DynamicTeacher": "teachers.adaptive",
    "UnlearnedTeacher": "teachers.adaptive",
    "EMATeacher": "teachers.ema",
    "EnsembleTeacher": "teachers.combined",
    "Evaluate": "measuring.job",
    "Evaluation": "evaluation.evaluation",
    "Experiment": "experiment",
    "Export": "export.job",
    "FusedTeacher": "teachers.combined",
    "KeepBest": "evaluation.keep_best",
    "LargestAttentionLogit": "evaluation.attention_metrics",
    "MostConfidentTeacher": "teachers.confident",
    "NamedTeachers": "teachers.named.teachers",
    "OfflineTeacher": "teachers.offline",
    "OnlineTeacher": "teachers.online",
    "PromptedTeacher": "teachers.prompted",
    "RecordTeacher": "recording.job",
    "RoutedTeacher": "teachers.routed",
    "RunWriter": "hooks.run_writer",
    "Sample": "sampling.job",
    "ScheduledTeacher": "teachers.scheduled",
    "ServedTeacher": "teachers.served",
    "Soup": "soups.job",
    "StartTeacher": "teachers.ema",
    "StepContext": "hooks.step_hook",
    "StepHook": "hooks.step_hook",
    "Trainer": "notebook.trainer",
    "ViewTeacher": "teachers.around",
    "averages": "averages",
    "data": "data",
    "optimizers": "optimizers",
    "starts": "starts",
    "step_rules": "step_rules",
    "sweeps": "sweeps",
}
_RENAMED = {"EmaTeacher": "EMATeacher"}

__getattr__, __all__ = lazy_names.attach(__name__, _HOMES, _RENAMED)
