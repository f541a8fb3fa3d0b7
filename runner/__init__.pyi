from runner import averages as averages
from runner import data as data
from runner import optimizers as optimizers
from runner import starts as starts
from runner import step_rules as step_rules
from runner import sweeps as sweeps
from runner.evaluation.attention_metrics import (
    LargestAttentionLogit as LargestAttentionLogit,
)
from runner.evaluation.evaluation import Evaluation as Evaluation
from runner.evaluation.keep_best import KeepBest as KeepBest
from runner.experiment import Experiment as Experiment
from runner.export.job import Export as Export
from runner.hooks.run_writer import RunWriter as RunWriter
from runner.hooks.step_hook import StepContext as StepContext
from runner.hooks.step_hook import StepHook as StepHook
from runner.measuring.job import Evaluate as Evaluate
from runner.notebook.trainer import Trainer as Trainer
from runner.recording.job import RecordTeacher as RecordTeacher
from runner.sampling.job import Sample as Sample
from runner.soups.job import Soup as Soup
from runner.teachers.adaptive import ContrastedTeacher as ContrastedTeacher
from runner.teachers.adaptive import DynamicTeacher as DynamicTeacher
from runner.teachers.adaptive import UnlearnedTeacher as UnlearnedTeacher
from runner.teachers.aligned import Aligned as Aligned
from runner.teachers.combined import EnsembleTeacher as EnsembleTeacher
from runner.teachers.combined import FusedTeacher as FusedTeacher
from runner.teachers.confident import MostConfidentTeacher as MostConfidentTeacher
from runner.teachers.context import ContextTeacher as ContextTeacher
from runner.teachers.ema import EMATeacher as EMATeacher
from runner.teachers.ema import StartTeacher as StartTeacher
from runner.teachers.named.teachers import NamedTeachers as NamedTeachers
from runner.teachers.offline import OfflineTeacher as OfflineTeacher
from runner.teachers.online import OnlineTeacher as OnlineTeacher
from runner.teachers.prompted import PromptedTeacher as PromptedTeacher
from runner.teachers.routed import RoutedTeacher as RoutedTeacher
from runner.teachers.scheduled import ScheduledTeacher as ScheduledTeacher
from runner.teachers.served import ServedTeacher as ServedTeacher
