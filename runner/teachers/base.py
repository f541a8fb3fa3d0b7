"""What every teacher is: a node of the graph, and what a run makes of it."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax

import losses
from models import sharding
from models.base import Batch
from runner.graph.job import Checked
from runner.head.vocab_partition import VocabPartition

if TYPE_CHECKING:
    from runner.data.dataset import Dataset
    from runner.data.labels import Labels
    from runner.data.pipeline import Rows
    from runner.state.trainable import TrainModules

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherContext:
    """Where a teacher is to teach.

    learnt: the student; None where there is none (recording).
    cache:  directory of what is worth keeping.
    dry:    only shapes are asked for, and files may be missing.
    """

    vocabulary: "Labels"
    mesh: jax.sharding.Mesh
    rules: sharding.Rules
    modules: "TrainModules | None" = None
    cache: str = ""
    dry: bool = False


class Teacher(Checked, abc.ABC):
    """A source of distributions over the vocabulary, as declared in a graph.

    A teacher may have state that moves with the student. It is part of the train state,
    so that it is sharded, checkpointed and resumed like the student itself; `ema`
    and `advance` only rearrange and mix trees of the student's
    `{"params": ..., "variables": ...}`.
    """

    @abc.abstractmethod
    def load(self, context: TeacherContext) -> "LoadedTeacher":
        """The teacher, checked against the context; no array is read yet.

        Raises:
          UserError: it is not what it should be, or speaks another vocabulary.
        """

    def identity(self) -> str:
        """32 hexadecimal digits: equal when the teacher's every weight is.

        Raises:
          UserError: it has none of its own (it moves, or it is records).
        """
        from runner.errors import UserError

        raise UserError(f"a {type(self).__name__} has no weights of its own")

    def init_state(self, student: Tree) -> Tree:
        """Its state before the first step, a tree of leaves of `student`."""
        del student
        return {}

    def update_state(self, ema: Tree, student: Tree, step: jax.Array) -> Tree:
        """Its state after `step` (int32, from 1), given the student's then."""
        del student, step
        return ema


@dataclasses.dataclass(frozen=True)
class LogitTiles:
    """A teacher's whole logits, made a tile of the vocabulary at a time.

    entries: outputs of its head.
    width:   those that count; beyond the tokenizer's ids is padding.
    outputs: as `TeacherTrunk.outputs`, without the logits.
    logits:  `(head_params, tokens, partition, start, width) -> [*b n]`, of one tile.
    """

    entries: int
    width: int
    outputs: Callable[[Tree, Tree, Batch], losses.TeacherOutputs]
    logits: Callable[[Tree, Tree, VocabPartition, Any, int], jax.Array]

    def fit(self, size: int, shards: int) -> bool:
        """Whether tiles of a student's vocabulary can be cut from this one."""
        return self.entries == size or (shards == 1 and self.entries > size)


@dataclasses.dataclass(frozen=True)
class TeacherTrunk:
    """What a teacher makes of one microbatch, before any head.

    tokens:  arrays `[*b ...]`, cut into blocks beside the student's.
    shared:  arrays that every block reads (its head).
    outputs: `(head_params, tokens, batch) -> TeacherOutputs`, the last two of a block.
    whole:   whether these have whole rows of logits.
    tiles:   the same a tile at a time, where they have and can be cut.
    """

    tokens: Tree
    head_params: Tree
    outputs: Callable[[Tree, Tree, Batch], losses.TeacherOutputs]
    full_logits: bool = False
    tiles: LogitTiles | None = None


class LoadedTeacher(abc.ABC):
    """A teacher made ready for a mesh and a vocabulary.

    abstract: shapes and shardings of the arrays that stay as they are: arguments of the
              compiled step, never donated, never in the optimiser.
    stored:   what records hold; None for a teacher that is a model.
    """

    abstract: Tree = {}  # noqa: RUF012 - an empty tree, read and never written
    stored: losses.RecordSpec | None = None

    def read(self) -> Tree:
        """The arrays of `abstract`, on the devices."""
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
        """Its forward pass over a microbatch, under `jit`.

        Args:
          frozen: the arrays of `read`.
          ema: those of `Teacher.init_state`.
          batch: the student's, packing and positions included.
          capture: intermediates wanted, from `offers`.
          logits: whether the distribution is wanted too.
        """

    def offers(self) -> frozenset[str]:
        """Every path that `capture` may name."""
        return frozenset()

    def rows_with_records(self, dataset: "Dataset") -> "Rows":
        """The data's rows with what this teacher has stored for them.

        Raises:
          UserError: it was stored for other data.
        """
        return dataset

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """For the work directory: what must be the same when a run goes on."""
