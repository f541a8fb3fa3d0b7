"""The train step: gradients, optimiser, metrics, compiled once."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics

from losses import IncompatibleLoss
from models import sharding
from models.base import Batch
from runner import runtime
from runner.errors import UserError
from runner.head.plan import HeadPlan
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules
from runner.step import expert_bias, expert_load
from runner.step.objective import Objective, StepGradients, TeacherState
from runner.teachers.base import LoadedTeacher

Metrics = Mapping[str, clu_metrics.Metric]
Tree = Any


class TrainStep:
    """`leaves, batch -> leaves, metrics`: the state crosses as flat, donated leaves.

    teacher: its weights are a further argument, which is never donated.
    """

    def __init__(
        self,
        modules: TrainModules,
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Runtime,
        seed: int,
        teacher: LoadedTeacher | None = None,
        gradient_filter: float = 0.0,
    ):
        self.modules, self.teacher = modules, teacher
        self.mesh, self.rules = mesh, config.mesh.rules
        self.optimizer = modules.optimizer
        self.objective = Objective(
            modules,
            mesh=mesh,
            config=config,
            seed=seed,
            teacher=teacher,
            gradient_filter=gradient_filter,
        )
        self.state = modules.abstract(mesh, self.rules)
        leaves, self._structure = jax.tree.flatten(self.state)
        self.compiled = jax.jit(
            self._on_leaves,
            donate_argnums=0,
            out_shardings=([x.sharding for x in leaves], None),
        )

    def __call__(
        self, leaves: list[jax.Array], batch: Batch
    ) -> tuple[list[jax.Array], Metrics]:
        """The next state's leaves; those given are consumed."""
        return self.compiled(leaves, batch, self.fixed)

    @functools.cached_property
    def fixed(self) -> Tree:
        """The teacher's weights on the devices, read when first asked for."""
        return {} if self.teacher is None else self.teacher.read()

    def abstract_arguments(self, batch: Any) -> tuple[Any, Any, Any]:
        """Shapes of what `compiled` takes; nothing is read."""
        fixed = {} if self.teacher is None else self.teacher.abstract
        return jax.tree.leaves(self.state), batch, fixed

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
        """How the head of a batch of these shapes is cut."""
        self.trace(batch)
        planned = self.objective.head_pass.planned
        assert planned is not None  # tracing has passed there
        return planned

    def unflatten(self, leaves: list[jax.Array]) -> TrainState:
        """The state that these are the leaves of."""
        return jax.tree.unflatten(self._structure, leaves)

    def _on_leaves(self, leaves: list[jax.Array], batch: Batch, fixed: Tree) -> tuple:
        state, metrics = self.update(self.unflatten(leaves), batch, fixed)
        return jax.tree.leaves(state), metrics

    def gradients(self, state: TrainState, batch: Batch, fixed: Tree) -> StepGradients:
        """What the batch says at `state`; `fixed` is the teacher's."""
        with sharding.use(self.mesh, self.rules):
            return self.objective(
                state.params,
                state.variables,
                batch,
                state.step,
                teacher=TeacherState(fixed=fixed, moving=state.teacher),
                memory=state.memory,
            )

    def update(
        self, state: TrainState, batch: Batch, fixed: Tree
    ) -> tuple[TrainState, Metrics]:
        """One optimiser step, as a pure function; `fixed` is the teacher's."""
        found = self.gradients(state, batch, fixed)
        updates, opt_state = self.optimizer.update(
            found.params, state.opt_state, state.params
        )
        following = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            variables=expert_bias.advanced(
                self.modules, state.variables, found.expert_load
            ),
            opt_state=opt_state,
            teacher=state.teacher,
            memory=found.memory,
        )
        following = dataclasses.replace(
            following, teacher=self.modules.advanced(following)
        )
        return following, self._metrics(found, state, updates, opt_state)

    def _metrics(
        self, found: StepGradients, state: TrainState, updates: Any, opt_state: Any
    ) -> dict[str, clu_metrics.Metric]:
        parameter_norm = optax.tree.norm(state.params)
        scalars = {
            "learning/total": found.total,
            "optimizer/gradient_norm": optax.tree.norm(found.params),
            "optimizer/parameter_norm": parameter_norm,
            "optimizer/update_ratio": optax.tree.norm(updates)
            / jnp.maximum(parameter_norm, jnp.finfo(jnp.float32).tiny),
        }
        rate = optax.tree.get(
            opt_state,
            "learning_rate",
            filtering=lambda path, value: isinstance(value, jax.Array),
        )
        if rate is not None:
            scalars["optimizer/learning_rate"] = rate
        for name, weight in found.weights.items():
            scalars[f"weights/{name}"] = weight
        for name, worth in found.worth.items():
            scalars[f"contributions/{name}"] = worth.contribution
            scalars[f"shares/{name}"] = worth.share
            if name not in found.terms:
                scalars[f"learning/{name}"] = worth.value
        for name, mean in found.token_weights.items():
            scalars[f"token_weights/{name}"] = mean
        if found.expert_load is not None:
            for name, value in expert_load.summary(found.expert_load).items():
                scalars[f"moe/{name}"] = value
        if found.teacher_load is not None:
            for name, value in expert_load.summary(found.teacher_load).items():
                scalars[f"moe/teacher_{name}"] = value
        averages: dict[str, clu_metrics.Metric] = {
            f"learning/{name}": x for name, x in found.terms.items()
        }
        return averages | {
            name: clu_metrics.LastValue.from_model_output(value)
            for name, value in scalars.items()
        }


def fetched(metrics: Metrics) -> dict[str, float]:
    """Numbers by name; an average over no token has none."""
    on_host = jax.device_get(metrics)
    return {
        name: float(metric.compute())
        for name, metric in on_host.items()
        if getattr(metric, "count", 1) != 0
    }
