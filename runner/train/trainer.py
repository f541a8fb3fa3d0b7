"""An experiment made ready on the devices at hand: all a loop needs but the state."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from runner import data, runtime
from runner.checkpoint.checkpoints import Checkpoints
from runner.errors import UserError
from runner.evaluation.diagnostics import Diagnosis, Diagnostics
from runner.evaluation.evaluation import Evaluator
from runner.head import flops
from runner.machine import mesh as mesh_lib
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules
from runner.step.requirements import check_tables
from runner.step.train_step import TrainStep
from runner.teachers.base import TeacherContext

if TYPE_CHECKING:
    from runner.data.pipeline import Rows
    from runner.experiment import Experiment
    from runner.machine.topology import Planned


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What stays the same from the first step to the last."""

    experiment: "Experiment"
    config: runtime.Runtime
    mesh: jax.sharding.Mesh
    dataset: data.Dataset
    rows: "Rows"
    modules: TrainModules
    step: TrainStep
    evaluators: dict[str, Evaluator]

    @property
    def targets_per_step(self) -> int:
        """Targets in a global batch (tokens, images), padding included."""
        return self.experiment.batch_size * self.dataset.targets_per_row

    def describe_data(self) -> dict[str, Any]:
        """The fingerprints of all data, for the work directory."""
        evaluated = {name: e.dataset.describe() for name, e in self.evaluators.items()}
        teacher = self.step.teacher
        taught = {} if teacher is None else {"teacher": teacher.describe()}
        return {"train_data": self.dataset.describe(), **taught, **evaluated}

    def evaluate(self, name: str, state: TrainState) -> dict[str, float]:
        """The metrics of one evaluation: over all of it at the end, a part before."""
        ended = int(state.step) == self.experiment.num_steps
        limit = None if ended else self.config.loop.evaluate_batches
        return self.evaluators[name](state, limit=limit)

    def diagnose(self, state: TrainState) -> Diagnosis:
        """What the terms make of the next batch."""
        with self.batches(start=int(state.step)) as batches:
            return self._diagnostics(state, next(batches))

    @functools.cached_property
    def _diagnostics(self) -> Diagnostics:
        return Diagnostics(self.step, best=self.config.diagnostics.best)

    def batches(self, *, start: int):
        """Global batches from the step after `start` on."""
        return data.batches(
            self.rows,
            batch_size=self.experiment.batch_size,
            seed=self.experiment.seed,
            start=start,
            sharding=mesh_lib.batch_sharding(self.mesh),
            config=self.config.input,
        )

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, dtypes and shardings of a global batch."""
        rows = {"index": np.zeros(1, np.int32), **self.rows.rows(np.zeros(1, np.int64))}
        placed = mesh_lib.batch_sharding(self.mesh)
        return {
            name: jax.ShapeDtypeStruct(
                (self.experiment.batch_size, *x.shape[1:]), x.dtype, sharding=placed
            )
            for name, x in rows.items()
        }

    def flops_per_step(self) -> int:
        """Matmul FLOPs of one step, on all devices."""
        return flops.matmul_flops(self.step.compiled, *self.abstract_arguments())

    def abstract_arguments(self) -> tuple[Any, ...]:
        """Shapes, dtypes and shardings of what the compiled step takes."""
        return self.step.abstract_arguments(self.abstract_batch())

    def initial(self) -> TrainState:
        """A fresh state, made straight into its shardings."""
        rules = self.config.mesh.rules
        return self.modules.create(self.experiment.seed, self.mesh, rules)

    def restored(self, checkpoints: Checkpoints) -> TrainState | None:
        """The newest state whose checkpoint is whole, if any."""
        step = checkpoints.latest_verified()
        return None if step is None else checkpoints.restore(step, self.step.state)


def prepare(
    experiment: "Experiment",
    config: runtime.Runtime | None = None,
    *,
    planned: "Planned | None" = None,
) -> Trainer:
    """Mesh, data, definitions and step; nothing is compiled yet.

    config:  as gin has it bound, unless given.
    planned: devices of a dry run, which reads no weights.

    Raises:
      UserError: they do not fit each other.
    """
    config = runtime.current() if config is None else config
    if config.compilation.cache:
        jax.config.update("jax_compilation_cache_dir", config.compilation.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if planned is None:
        mesh = mesh_lib.make(config.mesh)
    else:
        mesh = mesh_lib.over(config.mesh, planned.devices)
    modules = TrainModules(
        experiment.student, experiment.losses, experiment.optimizer, experiment.teacher
    )
    check_batch(
        "batch_size", experiment.batch_size, mesh, parts=config.step.microbatches
    )
    for evaluation in experiment.evaluations:
        name = f"evaluations.{evaluation.name}.batch_size"
        check_batch(name, evaluation.batch_size, mesh)
    dataset = experiment.train_data.load(cache=config.input.cache)
    check_data(modules, dataset)
    check_tables(modules.abstract_terms(), len(dataset))
    teacher = None
    if experiment.teacher is not None:
        teacher = experiment.teacher.load(
            TeacherContext(
                vocabulary=dataset.vocabulary,
                mesh=mesh,
                rules=config.mesh.rules,
                modules=modules,
                cache=config.input.cache,
                dry=planned is not None,
            )
        )
    step = TrainStep(
        modules,
        mesh=mesh,
        config=config,
        seed=experiment.seed,
        teacher=teacher,
        gradient_filter=experiment.gradient_filter,
    )
    evaluators = {
        evaluation.name: Evaluator(evaluation, modules, mesh=mesh, config=config)
        for evaluation in experiment.evaluations
    }
    return Trainer(
        experiment=experiment,
        config=config,
        mesh=mesh,
        dataset=dataset,
        rows=dataset if teacher is None else teacher.join(dataset),
        modules=modules,
        step=step,
        evaluators=evaluators,
    )


def check_batch(
    name: str, size: int, mesh: jax.sharding.Mesh, *, parts: int = 1
) -> None:
    """Refuse a batch that does not divide over microbatches and devices.

    Raises:
      UserError: with the nearest size that does.
    """
    unit = parts * mesh_lib.batch_shards(mesh)
    if size % unit:
        nearest = max(round(size / unit), 1) * unit
        raise UserError(
            f"{name}: {size} does not divide into {parts} microbatches over "
            f"{mesh_lib.batch_shards(mesh)} devices; the nearest that does is {nearest}"
        )


def check_data(modules: TrainModules, dataset: data.Dataset) -> None:
    """Refuse data that the student cannot read, or has too few outputs for.

    Raises:
      UserError: with the shapes, or both numbers.
    """
    student, labels = modules.abstract_student(), dataset.vocabulary
    try:
        student.check_batch(dataset.rows(np.zeros(1, np.int64)))
    except ValueError as error:
        raise UserError(f"student: {error}") from None
    if student.num_outputs < labels.size:
        raise UserError(
            f"student: {student.num_outputs} outputs for {labels.said}; "
            f"give the student {labels.student_field}"
        )
