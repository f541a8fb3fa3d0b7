"""An experiment on a mesh: data, modules, compiled step and evaluations."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from models.base import Batch
from runner import runtime
from runner.checkpoint.checkpoints import Checkpoints
from runner.data.dataset import Dataset
from runner.data.labels import Channels
from runner.data.pipeline import Batches, Rows, batches
from runner.errors import UserError, nearest
from runner.evaluation.diagnostics import Diagnosis, Diagnostics
from runner.evaluation.evaluator import Evaluator
from runner.evaluation.keep_best import KeepBest
from runner.evaluation.sampling import Sample, Sampler
from runner.head import flops
from runner.hooks.run_writer import RunWriter
from runner.hooks.step_hook import StepHook
from runner.machine import mesh as mesh_lib
from runner.starts.base import LoadedStart
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep
from runner.step.rollouts import CompiledRollouts, Metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """All of a run that stays the same from its first step to its last.

    `runner.experiment.Experiment.prepare` makes one.

    Attributes:
      num_steps: Optimiser steps of the whole run.
      batch_size: Rows in a global batch, over all devices and microbatches.
      seed: Of the initial state, the order of rows and the step's draws.
      terms: Names of the loss terms, in the experiment's order.
      config: The runtime settings.
      mesh: The devices.
      dataset: The training data.
      rows: The same rows, joined with the teacher's stored outputs if there are any.
      modules: Student, teacher and optimiser without their arrays.
      step: The train step.
      rollouts: The rows of each batch that the student writes; None for none.
      evaluators: By name, the compiled evaluations.
      hooks: Of the graph, in the order in which they act.
      writers: Of the graph.
      keep_best: The choice of the best checkpoint, if there is one.
      load_start: Where the first weights come from, given what was written of it when
        the run began, if it has; None for fresh ones.
    """

    num_steps: int
    batch_size: int
    seed: int
    terms: Sequence[str]
    config: runtime.Runtime
    mesh: jax.sharding.Mesh
    dataset: Dataset
    rows: Rows
    modules: TrainModules
    step: CompiledStep
    evaluators: dict[str, Evaluator]
    load_start: Callable[[Mapping[str, Any] | None], LoadedStart | None]
    rollouts: CompiledRollouts | None = None
    keep_best: KeepBest | None = None
    hooks: Sequence[StepHook] = ()
    writers: Sequence[RunWriter] = ()

    @property
    def targets_per_step(self) -> int:
        """Targets in a global batch (tokens, images), padding included."""
        return self.batch_size * self.dataset.targets_per_row

    @property
    def cautions(self) -> tuple[str, ...]:
        """Lines for the terminal: what may be wrong, and what is not measured."""
        of_teacher = () if self.step.teacher is None else self.step.teacher.cautions
        evaluated = (line for e in self.evaluators.values() for line in e.cautions)
        repeats = (
            f"{name}: {repeats}"
            for name, e in self.evaluators.items()
            if (repeats := self.dataset.repeats(e.dataset)) is not None
        )
        return (*of_teacher, *self.dataset.cautions, *evaluated, *repeats)

    def describe_data(self) -> dict[str, Any]:
        """Return the fingerprints of all data, for the work directory."""
        evaluated = {
            name: e.dataset.describe_all() for name, e in self.evaluators.items()
        }
        teacher = self.step.teacher
        described = {} if teacher is None else {"teacher": teacher.describe()}
        return {"train_data": self.dataset.describe_all(), **described, **evaluated}

    def trace(self) -> None:
        """Trace the step, which the first need not be again, and the evaluations.

        Raises:
          UserError: a loss or a metric does not fit what student and teacher offer.
        """
        self.step.trace(self.abstract_batch())
        for evaluator in self.evaluators.values():
            evaluator.trace(self.step.state)

    def check_keep_best(self) -> None:
        """Refuse a best checkpoint by a metric that its evaluation will not have.

        Raises:
          UserError: With the nearest one that it has.
        """
        if self.keep_best is None:
            return
        rule = self.keep_best
        names = self.evaluators[rule.evaluation].names(self.step.state)
        if rule.measure not in names:
            raise UserError(
                f"keep_best.metric: {rule.evaluation} has no '{rule.measure}'"
                f"{nearest(rule.measure, names)}"
            )

    def evaluate(
        self,
        name: str,
        state: TrainState,
        *,
        whole: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> dict[str, float]:
        """Return an evaluation's metrics.

        Args:
          name: Of the evaluation.
          state: The train state.
          whole: Measure all its rows, as it is done before the first step and after
            the last: these are results.
          progress: Called with the share of the rows that are measured, batch by batch.
        """
        whole = whole or int(state.step) in (0, self.num_steps)
        limit = None if whole else self.config.loop.evaluate_batches
        return self.evaluators[name](state, limit=limit, progress=progress)

    def diagnose(self, state: TrainState) -> Diagnosis:
        """Return the diagnosis of the terms on the next batch."""
        with self.batches(start=int(state.step)) as batches:
            batch, _ = self.with_rollouts(jax.tree.leaves(state), next(batches))
            return self._diagnostics(state, batch)

    def sample(self, state: TrainState) -> Sequence[Sample]:
        """Return continuations of held-out rows; of training rows if there are none."""
        return self._sampler(state)

    @functools.cached_property
    def _diagnostics(self) -> Diagnostics:
        return Diagnostics(
            self.step,
            best=self.config.diagnostics.best,
            classes=not isinstance(self.dataset.vocabulary, Channels),
        )

    @functools.cached_property
    def _sampler(self) -> Sampler:
        evaluator = next(iter(self.evaluators.values()), None)
        return Sampler(self.modules, evaluator.dataset if evaluator else self.dataset)

    def batches(self, *, start: int) -> Batches:
        """Return global batches, from that of the step after `start` on."""
        return batches(
            self.rows,
            batch_size=self.batch_size,
            seed=self.seed,
            start=start,
            sharding=mesh_lib.batch_sharding(self.mesh),
            config=self.config.input,
        )

    def with_rollouts(
        self, leaves: Sequence[jax.Array], batch: Batch
    ) -> tuple[Batch, Metrics]:
        """Return a batch with the rows that the student writes, and their metrics.

        Args:
          leaves: Of the state before the step that learns the batch.
          batch: As `batches` gives it.
        """
        if self.rollouts is None:
            return batch, {}
        return self.rollouts(self.step.unflatten(list(leaves)), batch)

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shapes, dtypes and shardings of a global batch."""
        rows = {"index": np.zeros(1, np.int32), **self.rows.rows(np.zeros(1, np.int64))}
        sharding = mesh_lib.batch_sharding(self.mesh)
        return {
            name: jax.ShapeDtypeStruct(
                (self.batch_size, *x.shape[1:]), x.dtype, sharding=sharding
            )
            for name, x in rows.items()
        }

    def abstract_arguments(self) -> tuple[Any, ...]:
        """Return shapes, dtypes and shardings of the compiled step's arguments."""
        return self.step.abstract_arguments(self.abstract_batch())

    def flops_per_step(self) -> int:
        """Return the matmul FLOPs of one step, on all devices."""
        return flops.matmul_flops(self.step.compiled, *self.abstract_arguments())

    def initial_state(self, start: LoadedStart | None = None) -> TrainState:
        """Return the state before the first step, straight in its shardings.

        Args:
          start: gives it; None for the experiment's own.
        """
        start = start or self.load_start(None)
        if start is not None:
            return start.state()
        rules = self.config.mesh.rules
        return self.modules.create(self.seed, self.mesh, rules)

    def restore(self, checkpoints: Checkpoints) -> TrainState | None:
        """Return the newest state whose checkpoint is intact; None without any."""
        step = checkpoints.latest_verified()
        return None if step is None else checkpoints.restore(step, self.step.state)
