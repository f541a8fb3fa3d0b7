"""One train step, phase by phase, as pure functions of arrays.

    count tokens -> pre-pass -> trunk forward -> head and losses -> trunk backward
      -> weights -> optimiser -> metrics

`runner.step.compiled_step` compiles it. Weights and global counts are
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
from jaxtyping import Array, Float, Int

from losses.core.batch_weights import BalanceInputs
from losses.core.term_values import averages
from losses.weighting.weights import (
    TermWeights,
    skipped_batches,
    term_reports,
    term_weights,
)
from models.base import Batch
from runner import optimizers
from runner.state.train_state import AUTHOR, TrainState
from runner.step import expert_load, running
from runner.step.arrays import (
    MicrobatchSums,
    StepGradients,
    StepInputs,
    TeacherState,
    Tokens,
)
from runner.step.logit_slopes import LogitSlopes
from runner.step.metrics import metrics
from runner.step.objective import Objective
from runner.step.prepass import PrePassResult, RunTrunk, divide
from runner.teachers.base import Teacher

Metrics = Mapping[str, Metric]
Tree = Any

NO_TEACHER = TeacherState()
NO_MEMORY: Mapping[str, Tree] = {"weights": {}, "tokens": {}}


def update(
    objective: Objective,
    state: TrainState,
    batch: Batch,
    *,
    frozen: Tree,
    teacher_node: Teacher | None = None,
    author_every: int = 1,
) -> tuple[TrainState, Metrics]:
    """Return the state after one optimiser step, and the metrics of the step.

    Args:
      objective: the terms over a mesh.
      state: before the step.
      batch: arrays `[B ...]`.
      frozen: the teacher's weights.
      teacher_node: says how the teacher's state follows the student; None without one.
      author_every: steps after which an older student that writes rows is renewed.
    """
    grads = gradients(
        objective,
        state.params,
        state.variables,
        batch,
        state.step,
        teacher=TeacherState(frozen=frozen, ema=state.teacher),
        memory=state.memory,
    )

    # Optimiser.
    updates, opt_state = objective.modules.optimizer.update(
        grads.params,
        state.opt_state,
        state.params,
        value=grads.total,
        slopes=LogitSlopes(objective, state, batch),
    )
    params = optimizers.apply_updates(state.params, updates)

    # State beside the parameters: expert biases, running state, memories, a teacher.
    variables = state.variables
    if grads.expert_load is not None:
        variables = expert_load.update_biases(
            objective.expert_biases, variables, grads.expert_load
        )
    if grads.running is not None:
        variables = running.update(objective.running, variables, grads.running)
    step, teacher = state.step + 1, state.teacher
    if teacher_node is not None:
        student = {
            "params": params["student"],
            "variables": variables["student"],
        }
        teacher = teacher_node.update_state(teacher, student, step)
    memory = grads.memory
    if AUTHOR in state.memory:
        new = {"params": params["student"], "variables": variables["student"]}
        renewed = step % author_every == 0
        author = jax.tree.map(
            functools.partial(jnp.where, renewed), new, state.memory[AUTHOR]
        )
        memory = {**memory, AUTHOR: author}
    new_state = TrainState(
        step=step,
        params=params,
        variables=variables,
        opt_state=opt_state,
        teacher=teacher,
        memory=memory,
    )

    # Metrics.
    return new_state, metrics(grads, state.params, updates, opt_state)


def gradients(
    objective: Objective,
    params: Tree,
    variables: Tree,
    batch: Batch,
    step: Int[Array, ""],
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
    counts, remembered = inputs.counts, memory.get("losses", {})
    inputs = dataclasses.replace(inputs, statistics=remembered)

    # Pre-pass: only what statistics, balances and reweightings ask for.
    run_trunk = objective.trunk_runner(params, variables, tokens, teacher)
    result = objective.prepass(params, inputs, tokens, memory["tokens"], run_trunk)
    balance_inputs = with_parameter_gradients(objective, params, result, run_trunk)

    # Weights of the terms; their gradient waits for the values.
    def weigh(learned: Tree) -> tuple[tuple[Tree, Float[Array, ""]], TermWeights]:
        weights = term_weights(items, balance_inputs, learned, memory["weights"])
        return (weights.effective, weights.penalty), weights

    _, weights_pullback, weights = jax.vjp(weigh, params["weights"], has_aux=True)

    # Trunk forward, head and losses, trunk backward: summed over microbatches.
    sums = accumulate_gradients(
        objective, params, result.inputs, result.tokens, run_trunk, weights.effective
    )

    # Gradients of learned weights, and the worth of every term.
    means = divide(sums.terms.weighted, counts)
    d_effective = {
        name: jnp.where(weight == 0.0, 0.0, means[name])
        for name, weight in weights.effective.items()
    }
    (d_weights,) = weights_pullback((d_effective, jnp.float32(1.0)))
    # A balance that waited for no values is asked about those of this pass.
    if balance_inputs.means is None:
        balance_inputs = dataclasses.replace(balance_inputs, means=means)
    skipped = {}
    if weights.balanced:
        skipped = skipped_batches(items, weights, balance_inputs)
    d_weights = {
        name: jax.tree.map(lambda x, skip=skipped[name]: jnp.where(skip, 0.0, x), tree)
        for name, tree in d_weights.items()
    }
    reports = term_reports(items, weights, means)
    of_losses = {
        term.name: term.loss.remember(means[term.name], remembered[term.name], step)
        for term in objective.terms
        if term.name in remembered
    }
    contributions = [reports[item.name].contribution for item in items]
    return StepGradients(
        params=sums.params | {"weights": d_weights},
        total=sum(contributions, weights.penalty),
        terms=averages(sums.terms.values, counts),
        weighted={
            term.name: means[term.name]
            for term in objective.terms
            if term.token_weight is not None
        },
        weights=weights.weights,
        reports=reports,
        token_weights=result.token_weights,
        skipped=skipped,
        memory={
            **({"losses": of_losses} if of_losses else {}),
            "weights": weights.memory,
            "tokens": result.memory,
        },
        expert_load=sums.expert_load,
        teacher_load=sums.teacher_load,
        running=None
        if sums.running is None
        else sums.running / objective.num_microbatches,
    )


def with_parameter_gradients(
    objective: Objective, params: Tree, result: PrePassResult, run_trunk: RunTrunk
) -> BalanceInputs:
    """Return the inputs of balances, with inner products in parameters if one wants.

    Args:
      objective: the terms over a mesh.
      params: as `TrainState.params`.
      result: of the pre-pass.
      run_trunk: the trunks of student and teacher over a microbatch.
    """
    if not objective.prepass.passes["parameter gradients"]:
        return result.balance_inputs
    names = result.balance_inputs.names

    def gradient_of_one(one_hot: Float[Array, " term"]) -> Tree:
        alone = dict(zip(names, one_hot, strict=True))
        return accumulate_gradients(
            objective, params, result.inputs, result.tokens, run_trunk, alone
        ).params

    # One backward pass a term, the weights of the others being 0.
    gradients = jax.lax.map(gradient_of_one, jnp.eye(len(names)))
    inner = jnp.zeros((len(names), len(names)))
    for x in jax.tree.leaves(gradients):
        axes = tuple(range(1, x.ndim))
        wide = x.astype(jnp.float32)
        inner += jnp.tensordot(wide, wide, axes=(axes, axes))
    return dataclasses.replace(result.balance_inputs, inner_of_parameters=inner)


def accumulate_gradients(
    objective: Objective,
    params: Tree,
    inputs: StepInputs,
    tokens: Tokens,
    run_trunk: RunTrunk,
    weights: Mapping[str, Float[Array, ""]],
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
        terms, d_params, d_tokens = objective.head_gradients(params, inputs, trunk)

        # Trunk backward.
        (d_student,) = trunk.pullback(d_tokens)
        load = functools.partial(expert_load.load, batch=trunk.constants.batch)
        return MicrobatchSums(
            params={
                "student": objective.head.add_leaves(d_student, d_params.head),
                "losses": d_params.losses,
            },
            terms=terms,
            expert_load=load(trunk.intermediates) if objective.has_experts else None,
            teacher_load=load(trunk.constants.teacher["intermediates"])
            if objective.teacher_has_experts
            else None,
            running=trunk.running,
        )

    return objective.accumulate(microbatch, tokens)
