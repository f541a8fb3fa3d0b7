"""The start interface: a node of the graph, loaded for a student."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from models import sharding
from models.base import Model
from runner.data.dataset import Dataset
from runner.graph.job import Checked
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules
from runner.teachers.base import Teacher


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartContext:
    """Surroundings that a start is loaded for.

    Attributes:
      modules: the student.
      mesh: devices of the run.
      rules: from logical axes to mesh axes.
      seed: of what the start leaves fresh.
      dataset: the training data.
      teacher: of the experiment; None without one.
      cache: directory for results of slow work, such as a tokenizer.
      began: what `describe` said when the run began; None for a run that begins now.
    """

    modules: TrainModules
    mesh: jax.sharding.Mesh
    rules: sharding.Rules
    seed: int
    dataset: Dataset
    teacher: Teacher | None = None
    cache: str = ""
    began: Mapping[str, Any] | None = None

    @property
    def student(self) -> Model:
        """The student without arrays."""
        return self.modules.abstract_student()


class Start(Checked, abc.ABC):
    """Source of the student's state before the first step, as declared.

    A dry run, and a run that goes on, do not look at its files.
    """

    def check_shapes(self) -> None:
        """Do nothing: shapes are the student's."""

    def check_resumed(self) -> None:
        """Do nothing: the run has a checkpoint of its own."""

    @abc.abstractmethod
    def load(self, context: StartContext) -> "LoadedStart":
        """Return the start, held against the student; no array is on a device yet.

        Raises:
          UserError: it is not there, is damaged, or does not fit the student or data.
        """


class LoadedStart(abc.ABC):
    """A start that fits a student.

    Attributes:
      memories: of the hooks that go on from it, as in a checkpoint.
    """

    memories: Mapping[str, Any] = {}

    @abc.abstractmethod
    def state(self) -> TrainState:
        """Return the state before the first step, on the devices."""

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Return JSON of what it is, for the work directory."""

    @property
    @abc.abstractmethod
    def summary(self) -> str:
        """One line for the terminal."""
