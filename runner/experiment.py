"""The root of a graph: what is learnt, and nothing of how it is carried out."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optax

from losses.core import terms
from losses.core.terms import Item
from models.base import Model
from runner import runtime
from runner.data.dataset import Dataset
from runner.data.documents.document import hashed_once
from runner.data.source import DataSource
from runner.errors import UserError, nearest, prefixed
from runner.evaluation.evaluation import Evaluation
from runner.evaluation.keep_best import KeepBest
from runner.files import early_line
from runner.graph.job import Job
from runner.hooks.run_writer import RunWriter
from runner.hooks.step_hook import StepHook
from runner.machine import compiled_programs, out_of_memory
from runner.machine import mesh as mesh_lib
from runner.machine.topology import Planned
from runner.starts.base import LoadedStart, Start, StartContext
from runner.state.path_patterns import Patterns
from runner.state.trainable import TrainModules, no_teacher_state
from runner.teachers.base import Teacher, TeacherContext
from runner.workdir.workdir import Workdir

if TYPE_CHECKING:  # imports orbax, which `--print_config` does without
    from runner.step.compiled_step import CompiledStep
    from runner.step.rollouts import CompiledRollouts
    from runner.train.setup import Setup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Job):
    """A student, its teacher, the ordered list of weighted terms, and the data.

    Attributes:
      student: Called with `rngs=`, under `jit`, straight into its shardings.
      losses: The weighted terms, and groups of them.
      train_data: The training data.
      optimizer: Of the student's parameters.
      num_steps: Optimiser steps of the whole run.
      batch_size: Rows (sequences, images) in a global batch, over all devices and
        microbatches.
      seed: Of the initial state, the order of rows and the step's draws.
      teacher: Online, or records of one; None to learn from the data alone.
      start: Where the weights before the first step come from; None for fresh ones.
      trainable: Patterns of paths of the student's parameters that are trained, as in
        `blocks/*` and `!embedding` (all but this). The others have neither gradient
        nor state of the optimiser. None for all.
      evaluations: Evaluations of the student, each on its own data.
      keep_best: The choice of a checkpoint that is kept for being the best, and of an
        early end; None for neither.
      hooks: Actions of your own beside the steps, in order; see `StepHook`.
      writers: Places of your own where metrics go too; see `RunWriter`.
      gradient_filter: Entries of the logits' gradient below this times
        `Σ_i |w_i| / N_i` are set to zero (of a cross-entropy: probabilities below
        it), and parts of the head where all are zero are skipped. 0 is off. It
        changes the training: where no probability reaches it, as in a model that
        starts near uniform over more than `1 / gradient_filter` entries, the head's
        rows of all tokens that are no target stay exactly where they are. Wijmans
        et al. 2024 (arXiv:2411.09009), section 4.3, 2^-12.

    Raises:
      ValueError: No term, two terms or groups of one name, a number below 1, or a
        filter outside [0, 1).
    """

    student: Callable[..., Model]
    losses: Sequence[Item]
    train_data: DataSource
    optimizer: optax.GradientTransformation
    num_steps: int
    batch_size: int
    seed: int = 0
    teacher: Teacher | None = None
    start: Start | None = None
    trainable: Patterns | None = None
    evaluations: Sequence[Evaluation] = ()
    keep_best: KeepBest | None = None
    hooks: Sequence[StepHook] = ()
    writers: Sequence[RunWriter] = ()
    gradient_filter: float = 0.0

    def __post_init__(self):
        if not self.losses:
            raise ValueError("losses must hold at least one term")
        terms.check_names(self.losses)
        for field in ("num_steps", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"{field} must be at least 1, got {getattr(self, field)}"
                )
        if not 0 <= self.seed < 2**32:  # JAX drops higher bits: two seeds as one
            raise ValueError(f"seed must be 0 to 2**32 - 1, got {self.seed}")
        if self.keep_best is not None:
            names = [evaluation.name for evaluation in self.evaluations]
            if (name := self.keep_best.evaluation) not in names:
                raise ValueError(
                    f"keep_best.metric: no evaluation {name!r}{nearest(name, names)}"
                )
        if not 0.0 <= self.gradient_filter < 1.0:
            raise ValueError(
                f"gradient_filter must be in [0, 1), got {self.gradient_filter}"
            )

    def check(self) -> None:
        """Refuse terms that the student cannot serve; no array is made.

        Raises:
          UserError: A term needs what the student does not offer, or a teacher.
        """
        from runner.step.requirements import check_balances, check_needs, check_teacher

        check_balances(self.losses)
        abstract_terms = self._modules.abstract_terms()
        check_needs(abstract_terms, self._modules.abstract_student().offers())
        if self.teacher is None:
            check_teacher(abstract_terms, None)

    def init_distributed(self) -> int:
        """Join the processes that train together; return the number of this one.

        Raises:
          UserError: They do not come, or the mesh does not fit their devices.
        """
        from runner.machine import distributed

        config = runtime.current()
        process = distributed.start(config)
        mesh_lib.make(config.mesh)
        return process

    def run(self, workdir: Workdir) -> None:
        """Train to the last step, from the newest checkpoint if there is one."""
        from runner.machine import distributed
        from runner.train import loop

        if workdir.writes:
            early_line.show("loading data and models")
        with distributed.together(), out_of_memory.explained():
            loop.train(self.prepare(), workdir)

    @hashed_once()
    def prepare(
        self, config: runtime.Runtime | None = None, *, planned: Planned | None = None
    ) -> "Setup":
        """Return the experiment on a mesh: data, modules and step; nothing is compiled.

        Args:
          config: The runtime settings; by default as gin has them bound.
          planned: Devices of a dry run, which reads no weights.

        Raises:
          UserError: Data, mesh and experiment do not fit each other.
        """
        from runner.evaluation.evaluator import Evaluator
        from runner.step import number_terms
        from runner.step.compiled_step import CompiledStep
        from runner.step.requirements import check_data, check_masks, check_tables
        from runner.train.setup import Setup

        config = runtime.current() if config is None else config
        compiled_programs.keep(config.compilation)

        # The mesh, and batches that divide over it.
        if planned is None:
            mesh = mesh_lib.make(config.mesh)
        else:
            mesh = mesh_lib.over(config.mesh, planned.devices)
        modules = self._modules
        mesh_lib.check_batch(
            "batch_size", self.batch_size, mesh, microbatches=config.step.microbatches
        )
        for evaluation in self.evaluations:
            name = f"evaluations.{evaluation.name}.batch_size"
            mesh_lib.check_batch(name, evaluation.batch_size, mesh)

        # Data that the student and the terms can read.
        dataset = self.train_data.load(cache=config.input.cache)
        check_data(modules, dataset)
        if planned is None and len(dataset) < self.batch_size:
            raise UserError(
                f"batch_size: {self.batch_size} rows, the training data has "
                f"{len(dataset)}"
            )
        check_tables(modules.abstract_terms(), len(dataset))
        check_masks(modules.abstract_terms(), dataset)
        number_terms.check_terms(modules.abstract_terms(), dataset)
        author_every = dataset.rollouts.refresh_every if dataset.rollouts else 1
        if author_every > 1:
            modules = modules.with_author()

        # The teacher, the step and the evaluations.
        teacher = None
        if self.teacher is not None:
            teacher = self.teacher.load(
                TeacherContext(
                    vocabulary=dataset.vocabulary,
                    mesh=mesh,
                    rules=config.mesh.rules,
                    modules=modules,
                    cache=config.input.cache,
                    positions=dataset.targets_per_row,
                    num_steps=self.num_steps,
                    dry=planned is not None,
                )
            )
            if dataset.rollouts is not None and teacher.stored is not None:
                raise UserError(
                    "teacher: records hold nothing of the rows that a student writes "
                    "(train_data is OnPolicy), and Aligned does not read them; wanted: "
                    "a model, as OnlineTeacher"
                )
        step = CompiledStep(
            modules,
            mesh=mesh,
            config=config,
            seed=self.seed,
            teacher=teacher,
            teacher_node=self.teacher,
            gradient_filter=self.gradient_filter,
            author_every=author_every,
        )
        evaluators = {
            evaluation.name: Evaluator(evaluation, step, config=config)
            for evaluation in self.evaluations
        }
        for name, evaluator in evaluators.items():
            with prefixed(f"evaluations.{name}"):
                dataset.check_held_out(evaluator.dataset)

        def load_start(began: Mapping[str, Any] | None) -> LoadedStart | None:
            if self.start is None:
                return None
            return self.start.load(
                StartContext(
                    modules=modules,
                    mesh=mesh,
                    rules=config.mesh.rules,
                    seed=self.seed,
                    dataset=dataset,
                    teacher=self.teacher,
                    cache=config.input.cache,
                    began=began,
                )
            )

        return Setup(
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            seed=self.seed,
            terms=tuple(term.name for term in terms.flat_terms(self.losses)),
            config=config,
            mesh=mesh,
            dataset=dataset,
            rows=dataset if teacher is None else teacher.rows_with_records(dataset),
            modules=modules,
            step=step,
            rollouts=self._rollouts(dataset, step),
            evaluators=evaluators,
            keep_best=self.keep_best,
            load_start=load_start,
            hooks=self.hooks,
            writers=self.writers,
        )

    @functools.cached_property
    def _modules(self) -> TrainModules:
        init_teacher = self.teacher.init_state if self.teacher else no_teacher_state
        return TrainModules(
            self.student, self.losses, self.optimizer, init_teacher, self.trainable
        )

    def _rollouts(
        self, dataset: Dataset, step: "CompiledStep"
    ) -> "CompiledRollouts | None":
        """Return what writes the student's own rows of a batch, if there are any.

        Raises:
          UserError: The student writes no text.
        """
        from runner.step.rollouts import CompiledRollouts

        if dataset.rollouts is None:
            return None
        return CompiledRollouts(
            step.modules,
            dataset.rollouts,
            mesh=step.mesh,
            rules=step.rules,
            seed=step.seed,
            teacher=step.teacher,
            frozen=lambda: step.frozen,
        )
