"""The train step of an experiment on a mesh, compiled."""

import functools
from typing import Any

import jax
from jaxtyping import Array, Shaped

from losses import IncompatibleLoss
from models import sharding
from models.base import Batch
from runner import runtime
from runner.errors import UserError
from runner.head.plan import HeadPlan
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules
from runner.step.arrays import StepGradients, TeacherState
from runner.step.objective import Objective
from runner.step.train_step import Metrics, gradients, update
from runner.teachers.base import LoadedTeacher, Teacher

Tree = Any
Leaves = list[Shaped[Array, "..."]]


class CompiledStep:
    """`leaves, batch -> leaves, metrics`: the state crosses as flat, donated leaves.

    Args:
      modules: student, terms and optimiser.
      mesh: the devices.
      config: how the step is cut.
      seed: of the experiment.
      teacher: the loaded one; its weights are a further argument, never donated.
      teacher_node: the declared one, which says how its state follows the student.
      gradient_filter: as `Experiment.gradient_filter`.
      author_every: as `train_step.update`.
    """

    def __init__(
        self,
        modules: TrainModules,
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Runtime,
        seed: int,
        teacher: LoadedTeacher | None = None,
        teacher_node: Teacher | None = None,
        gradient_filter: float = 0.0,
        author_every: int = 1,
    ):
        self.modules, self.teacher, self.seed = modules, teacher, seed
        self._teacher_node, self._author_every = teacher_node, author_every
        self.mesh, self.rules = mesh, config.mesh.rules
        self.objective = Objective(
            modules,
            mesh=mesh,
            config=config,
            seed=seed,
            teacher=teacher,
            gradient_filter=gradient_filter,
        )
        # Flat leaves: at 300 of them `nnx.jit` over modules takes 5 times as long to
        # dispatch. Donated, so that the old and the new state share their memory.
        self.state = modules.abstract(mesh, self.rules)
        leaves, self._structure = jax.tree.flatten(self.state)
        self.compiled = jax.jit(
            self._on_leaves,
            donate_argnums=0,
            out_shardings=([x.sharding for x in leaves], None),
        )

    def __call__(self, leaves: Leaves, batch: Batch) -> tuple[Leaves, Metrics]:
        """Run the compiled step; `leaves` are consumed."""
        return self.compiled(leaves, batch, self.frozen)

    def gradients(self, state: TrainState, batch: Batch, frozen: Tree) -> StepGradients:
        """Return the gradients of `batch` at `state`; `frozen` is the teacher's."""
        with sharding.use(self.mesh, self.rules):
            return gradients(
                self.objective,
                state.params,
                state.variables,
                batch,
                state.step,
                teacher=TeacherState(frozen=frozen, ema=state.teacher),
                memory=state.memory,
            )

    @functools.cached_property
    def frozen(self) -> Tree:
        """The teacher's weights on the devices, read when first asked for."""
        return {} if self.teacher is None else self.teacher.read()

    def abstract_arguments(self, batch: Any) -> tuple[Any, Any, Any]:
        """Return the shapes of what `compiled` takes; nothing is read."""
        frozen = {} if self.teacher is None else self.teacher.abstract
        return jax.tree.leaves(self.state), batch, frozen

    def trace(self, batch: Any) -> None:
        """Trace the step for a batch of these shapes; the first step need not again.

        Raises:
          UserError: a loss does not fit what student and teacher offer.
        """
        try:
            jax.eval_shape(self.compiled, *self.abstract_arguments(batch))
        except IncompatibleLoss as error:
            raise UserError(f"losses: {error}") from error

    def head_plan(self, batch: Any) -> HeadPlan:
        """Return how the head of a batch of these shapes is cut."""

        def plan(leaves: Leaves, batch: Batch, frozen: Tree) -> HeadPlan:
            state = self.unflatten(leaves)
            with sharding.use(self.mesh, self.rules):
                return self.objective.head_plan(
                    state.params,
                    state.variables,
                    batch,
                    teacher=TeacherState(frozen=frozen, ema=state.teacher),
                    memory=state.memory,
                )

        head_plan = jax.eval_shape(plan, *self.abstract_arguments(batch))
        assert isinstance(head_plan, HeadPlan)  # it has no arrays to lose
        return head_plan

    def unflatten(self, leaves: Leaves) -> TrainState:
        """Return the state with these leaves."""
        return jax.tree.unflatten(self._structure, leaves)

    def _on_leaves(self, leaves: Leaves, batch: Batch, frozen: Tree) -> tuple:
        with sharding.use(self.mesh, self.rules):
            state, metrics = update(
                self.objective,
                self.unflatten(leaves),
                batch,
                frozen=frozen,
                teacher_node=self._teacher_node,
                author_every=self._author_every,
            )
        return jax.tree.leaves(state), metrics
