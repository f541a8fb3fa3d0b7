"""One train step, phase by phase, and the step compiled.

    count tokens -> pre-pass -> trunk forward -> head and losses -> trunk backward
      -> weights -> optimiser -> metrics

`gradients` and `update` are pure functions of arrays. Weights and global counts are
known before anything is differentiated, so that `Σ_i w_i / N_i Σ mask·value` is one
sum: over tokens, blocks, devices and microbatches.

A `step` is a finished optimiser step: the first batch is seen at step 0.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from clu.metrics import Metric

from losses import IncompatibleLoss
from losses.core.term_values import average
from losses.weighting.weights import TermWeights, term_reports, term_weights
from models import sharding
from models.base import Batch
from runner import optimizers, runtime
from runner.errors import UserError
from runner.head.plan import HeadPlan
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules
from runner.step import expert_load
from runner.step.arrays import (
    MicrobatchSums,
    StepGradients,
    StepInputs,
    TeacherState,
    Tokens,
)
from runner.step.metrics import metrics
from runner.step.objective import Objective
from runner.step.prepass import RunTrunk, divide
from runner.teachers.base import LoadedTeacher, Teacher

Metrics = Mapping[str, Metric]
Tree = Any

NO_TEACHER = TeacherState()
NO_MEMORY: Mapping[str, Tree] = {"weights": {}, "tokens": {}}


def gradients(
    objective: Objective,
    params: Tree,
    variables: Tree,
    batch: Batch,
    step: jax.Array,
    *,
    teacher: TeacherState = NO_TEACHER,
    memory: Tree = NO_MEMORY,
) -> StepGradients:
    """Return the gradients of the objective over a global batch.

    Args:
      objective: the terms over a mesh.
      params: as `TrainState.params`.
      variables: as `TrainState.variables`.
      batch: arrays `[B ...]`.
      step: finished optimiser steps, int32.
      teacher: its arrays.
      memory: as `TrainState.memory`.
    """
    items = objective.modules.items

    # Count tokens, over the whole global batch.
    tokens, inputs = objective.count(variables, batch, step)
    counts = inputs.counts

    # Pre-pass: only what statistics, balances and reweightings ask for.
    run_trunk = objective.trunk_runner(params, variables, tokens, teacher)
    result = objective.prepass(params, inputs, tokens, memory["tokens"], run_trunk)

    # Weights of the terms; their gradient waits for the values.
    def weigh(learned: Tree) -> tuple[tuple[Tree, jax.Array], TermWeights]:
        weights = term_weights(items, result.balance_inputs, learned, memory["weights"])
        return (weights.effective, weights.penalty), weights

    _, weights_pullback, weights = jax.vjp(weigh, params["weights"], has_aux=True)

    # Trunk forward, head and losses, trunk backward: summed over microbatches.
    sums = accumulate_gradients(
        objective, params, result.inputs, result.tokens, run_trunk, weights.effective
    )

    # Gradients of learned weights, and the worth of every term.
    means = divide(sums.terms.weighted, counts)
    (d_weights,) = weights_pullback((means, jnp.float32(1.0)))
    reports = term_reports(items, weights, means)
    contributions = [reports[item.name].contribution for item in items]
    token_weight_sums = {n: jnp.sum(w) for n, w in result.tokens.token_weights.items()}
    return StepGradients(
        params=sums.params | {"weights": d_weights},
        total=sum(contributions, weights.penalty),
        terms={n: average(x, counts[n]) for n, x in sums.terms.values.items()},
        weights=weights.weights,
        reports=reports,
        token_weights=divide(token_weight_sums, counts),
        memory={"weights": weights.memory, "tokens": result.memory},
        expert_load=sums.expert_load,
        teacher_load=sums.teacher_load,
    )


def accumulate_gradients(
    objective: Objective,
    params: Tree,
    inputs: StepInputs,
    tokens: Tokens,
    run_trunk: RunTrunk,
    weights: Mapping[str, jax.Array],
) -> MicrobatchSums:
    """Return the gradient of `Σ_i c_i L_i`, and the sums of the terms.

    Args:
      objective: the terms over a mesh.
      params: as `TrainState.params`.
      inputs: with counts and statistics.
      tokens: the global batch, with token weights.
      run_trunk: the trunks of student and teacher over a microbatch.
      weights: by term, c: every weight around it multiplied.
    """
    inputs = dataclasses.replace(inputs, scales=divide(weights, inputs.counts))

    def microbatch(tokens: Tokens) -> MicrobatchSums:
        # Trunk forward.
        trunk = run_trunk(tokens)

        # Head and losses, forward and backward, a block of tokens at a time.
        terms, d_params, d_tokens = objective.head_pass.gradients(params, inputs, trunk)

        # Trunk backward.
        (d_student,) = trunk.pullback(d_tokens)
        load = functools.partial(expert_load.load, batch=trunk.constants.batch)
        return MicrobatchSums(
            params={
                "student": trunk.head.add_leaves(d_student, d_params.head),
                "losses": d_params.losses,
            },
            terms=terms,
            expert_load=load(trunk.intermediates) if objective.has_experts else None,
            teacher_load=load(trunk.constants.teacher["intermediates"])
            if objective.teacher_has_experts
            else None,
        )

    return objective.accumulate(microbatch, tokens)


class TrainStep:
    """`leaves, batch -> leaves, metrics`: the state crosses as flat, donated leaves.

    Args:
      modules: student, terms and optimiser.
      mesh: the devices.
      config: how the step is cut.
      seed: of the experiment.
      teacher: the loaded one; its weights are a further argument, never donated.
      teacher_node: the declared one, which says how its state follows the student.
      gradient_filter: as `Experiment.gradient_filter`.
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
    ):
        self.modules, self.teacher = modules, teacher
        self._teacher_node = teacher_node
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

    def update(
        self, state: TrainState, batch: Batch, frozen: Tree
    ) -> tuple[TrainState, Metrics]:
        """Return the state after one optimiser step, as a pure function.

        Args:
          state: before the step.
          batch: arrays `[B ...]`.
          frozen: the teacher's weights.
        """
        grads = self.gradients(state, batch, frozen)

        # Optimiser.
        updates, opt_state = self.optimizer.update(
            grads.params, state.opt_state, state.params
        )
        params = optimizers.apply_updates(state.params, updates)

        # State beside the parameters: expert biases, memories, a teacher that follows.
        variables = expert_load.update_biases(
            self.modules, state.variables, grads.expert_load
        )
        step, teacher = state.step + 1, state.teacher
        if self._teacher_node is not None:
            student = {
                "params": params["student"],
                "variables": variables["student"],
            }
            teacher = self._teacher_node.update_state(teacher, student, step)
        new_state = TrainState(
            step=step,
            params=params,
            variables=variables,
            opt_state=opt_state,
            teacher=teacher,
            memory=grads.memory,
        )

        # Metrics.
        return new_state, metrics(grads, state.params, updates, opt_state)

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

    def __call__(
        self, leaves: list[jax.Array], batch: Batch
    ) -> tuple[list[jax.Array], Metrics]:
        """Run the compiled step; `leaves` are consumed."""
        return self.compiled(leaves, batch, self.frozen)

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

        def plan(leaves: list[jax.Array], batch: Batch, frozen: Tree) -> HeadPlan:
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

    def unflatten(self, leaves: list[jax.Array]) -> TrainState:
        """Return the state with these leaves."""
        return jax.tree.unflatten(self._structure, leaves)

    def _on_leaves(self, leaves: list[jax.Array], batch: Batch, frozen: Tree) -> tuple:
        state, step_metrics = self.update(self.unflatten(leaves), batch, frozen)
        return jax.tree.leaves(state), step_metrics
