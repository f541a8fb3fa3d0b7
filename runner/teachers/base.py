"""The teacher interface: a node of the graph, loaded for a mesh, run in the step."""

import abc
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from losses import RecordSpec, TeacherOutputs
from models import sharding
from models.base import Batch
from runner.data.dataset import Dataset
from runner.data.joined_rows import Join, JoinedRows
from runner.data.labels import Labels
from runner.data.pipeline import Rows
from runner.errors import UserError
from runner.graph.job import Checked
from runner.head.vocab_partition import VocabPartition
from runner.state.trainable import TrainModules

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherContext:
    """Surroundings that a teacher is loaded for.

    Attributes:
      vocabulary: of the data.
      mesh: devices of the run.
      rules: from logical axes to mesh axes.
      modules: the student; None where there is none (recording).
      cache: directory for results of slow work, such as a tokenizer.
      positions: in a row of the data.
      num_steps: of the run; None where none is taken (recording, measuring).
      dry: only shapes are asked for, and files may be missing.
    """

    vocabulary: Labels
    mesh: jax.sharding.Mesh
    rules: sharding.Rules
    modules: TrainModules | None = None
    cache: str = ""
    positions: int = 1
    num_steps: int | None = None
    dry: bool = False


class Teacher(Checked, abc.ABC):
    """A source of distributions over the vocabulary, as declared in a graph.

    A teacher may have state that follows the student. It is part of the train state,
    so that it is sharded, checkpointed and resumed like the student itself;
    `init_state` and `update_state` only rearrange and mix trees of the student's
    `{"params": ..., "variables": ...}`; floats in them are held in float32. Other
    arrays in it, such as a count of steps, are small: every device has them whole.
    """

    @abc.abstractmethod
    def load(self, context: TeacherContext) -> "LoadedTeacher":
        """Return the teacher, checked against the context; no array is read yet.

        Raises:
          UserError: it is not what it should be, or speaks another vocabulary.
        """

    def identity(self) -> str:
        """Return 32 hexadecimal digits: equal when the teacher's every weight is.

        Raises:
          UserError: it has no weights of its own (an average, records).
        """
        raise UserError(f"a {type(self).__name__} has no weights of its own")

    def init_state(self, student: Tree) -> Tree:
        """Return its state before the first step, of leaves of `student` or small."""
        del student
        return {}

    def update_state(self, ema: Tree, student: Tree, step: jax.Array) -> Tree:
        """Return its state after `step` (int32, from 1), from the student's then."""
        del student, step
        return ema


@dataclasses.dataclass(frozen=True)
class LogitTiles:
    """A teacher's whole logits, computed a tile of the vocabulary at a time.

    Attributes:
      entries: outputs of its head.
      width: outputs that count; those beyond the tokenizer's ids are padding.
      outputs: as `TeacherTrunk.outputs`, without the logits.
      logits: `(head_params, tokens, partition, start, width) -> [*b n]`, of one tile.
    """

    entries: int
    width: int
    outputs: Callable[[Tree, Tree, Batch], TeacherOutputs]
    logits: Callable[[Tree, Tree, VocabPartition, Any, int], jax.Array]

    def fit(self, size: int, shards: int) -> bool:
        """Return true if tiles of a student's vocabulary can be cut from this one."""
        return self.entries == size or (shards == 1 and self.entries > size)


@dataclasses.dataclass(frozen=True)
class TeacherTrunk:
    """A teacher's trunk outputs for one microbatch.

    Attributes:
      tokens: arrays `[*b ...]`, cut into blocks beside the student's.
      head_params: arrays that every block reads.
      outputs: `(head_params, tokens, batch) -> TeacherOutputs`, of a block.
      full_logits: whether these have whole rows of logits.
      width: entries of these rows; None for those of the student's.
      tiles: the same a tile at a time, where whole logits can be cut.
    """

    tokens: Tree
    head_params: Tree
    outputs: Callable[[Tree, Tree, Batch], TeacherOutputs]
    full_logits: bool = False
    width: int | None = None
    tiles: LogitTiles | None = None


class LoadedTeacher(abc.ABC):
    """A teacher loaded for a mesh and a vocabulary.

    Attributes:
      abstract: shapes and shardings of the frozen arrays: arguments of the compiled
        step, never donated, never in the optimiser.
      stored: form of its records; None for a teacher that is a model.
      columns: of the data, that its trunk reads beside tokens and their places.
      views: of the student's batch, that its trunk reads (`models.views.with_views`).
      cautions: lines for the terminal, of what may be wrong and cannot be told.
    """

    abstract: Tree = {}  # noqa: RUF012 - an empty tree, read and never written
    stored: RecordSpec | None = None
    columns: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()
    cautions: tuple[str, ...] = ()

    def read(self) -> Tree:
        """Return the arrays of `abstract`, on the devices."""
        return {}

    @abc.abstractmethod
    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        """Run its trunk over a microbatch, under `jit`.

        Args:
          frozen: the arrays of `read`.
          ema: those of `Teacher.init_state`.
          batch: the student's, packing and positions included.
          capture: paths of intermediates, from `offers`.
          logits: whether the distribution is needed too.
        """

    def offers(self) -> frozenset[str]:
        """Return every path that `capture` may name."""
        return frozenset()

    def covers(self, dataset: Dataset) -> bool:
        """Return whether it can teach on these rows: a model can, on any."""
        del dataset
        return True

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        """Return what is to be joined to the data's rows, or asked of them.

        Raises:
          UserError: it was stored for other data.
        """
        del dataset
        return ()

    def rows_with_records(self, dataset: Dataset) -> Rows:
        """Return the data's rows with all that `joins` says of them.

        Raises:
          UserError: as `joins`.
        """
        joins = self.joins(dataset)
        return JoinedRows(dataset, joins) if joins else dataset

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Return JSON values that must be the same when a run goes on."""


def digest(text: str) -> str:
    """Return 32 hexadecimal digits that stand for a text, for `Teacher.identity`."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
