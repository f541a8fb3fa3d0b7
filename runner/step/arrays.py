"""Arrays that cross between the parts of a step, as registered dataclasses.

`*b` are the token axes of a global batch, a microbatch or a block of tokens.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from clu.metrics import Average
from jaxtyping import Array, Bool, Float, Int

from losses.weighting.weights import TermReport

Tree = Any
ByTerm = Mapping[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherState:
    """The teacher's arrays.

    Attributes:
      frozen: weights that stay as they are.
      ema: weights that follow the student, from `TrainState.teacher`.
    """

    frozen: Tree = dataclasses.field(default_factory=dict)
    ema: Tree = dataclasses.field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokens:
    """A global batch, or one microbatch of it.

    Attributes:
      batch: arrays `[B ...]` by name.
      masks: by term, the tokens it counts.
      token_weights: by term, where they are made from the whole batch
        (`losses.Reweighting`).
    """

    batch: Mapping[str, Array]
    masks: Mapping[str, Bool[Array, "*b"]]
    token_weights: Mapping[str, Float[Array, "*b"]] = dataclasses.field(
        default_factory=dict
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepInputs:
    """Arrays that every block reads and none differentiates.

    Attributes:
      variables: as `TrainState.variables`.
      step: finished optimiser steps.
      counts: by term, tokens that it counts in the global batch.
      statistics: by term, means over the global batch of what its loss asks for.
      scales: by term, its weight over its count; empty before the weights are known.
      teacher_head: parameters of the teacher's head.
      num_rows: of the global batch.
    """

    variables: Tree
    step: Int[Array, ""]
    counts: Mapping[str, Float[Array, ""]]
    statistics: Mapping[str, Mapping[str, Array]] = dataclasses.field(
        default_factory=dict
    )
    scales: Mapping[str, Float[Array, ""]] = dataclasses.field(default_factory=dict)
    teacher_head: Tree = dataclasses.field(default_factory=dict)
    num_rows: int = dataclasses.field(default=0, metadata={"static": True})

    def with_teacher_head(self, params: Tree) -> "StepInputs":
        """Return them with the parameters of the teacher's head."""
        return dataclasses.replace(self, teacher_head=params)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadParams:
    """Parameters that every block reads and differentiates.

    Attributes:
      head: leaves of the student's parameters that its head reads.
      losses: by term, the parameters that its loss owns.
    """

    head: list[Array]
    losses: ByTerm


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockTokens:
    """Trunk outputs of a block, differentiated.

    Attributes:
      hidden: what the head reads.
      intermediates: by path, those of a floating dtype.
    """

    hidden: Float[Array, "*b d"]
    intermediates: Mapping[str, Float[Array, "..."]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockConstants:
    """Arrays of a block that are not differentiated.

    Attributes:
      batch: the entries of the batch that have the token axes.
      masks: as in `Tokens`.
      token_weights: as in `Tokens`.
      intermediates: by path, the student's integer ones.
      teacher: what the teacher has for each token (`TeacherTrunk.tokens`).
    """

    batch: Mapping[str, Array]
    masks: Mapping[str, Bool[Array, "*b"]]
    token_weights: Mapping[str, Float[Array, "*b"]]
    intermediates: Mapping[str, Int[Array, "..."]]
    teacher: Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TermSums:
    """By term, sums over the tokens that it counts.

    Attributes:
      values: of its values.
      weighted: of its values times its token weights.
    """

    values: Mapping[str, Float[Array, ""]]
    weighted: Mapping[str, Float[Array, ""]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MicrobatchSums:
    """Sums over the tokens of one microbatch; over all of them, those of the step.

    Attributes:
      params: gradients of `student` and `losses`, as `TrainState.params`.
      terms: values of the terms.
      expert_load: tokens per expert; None without experts.
      teacher_load: the teacher's; None where it shows none.
      running: what the student's running state observes; None without one.
    """

    params: Tree
    terms: TermSums
    expert_load: Float[Array, "layer expert"] | None
    teacher_load: Float[Array, "layer expert"] | None
    running: Float[Array, " n"] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepGradients:
    """Gradients and metrics of one global batch.

    Attributes:
      params: gradients, as `TrainState.params`.
      total: `Σ_i w_i total_i / N_i`, and the penalties of balances.
      terms: by term, the unweighted sum of its values and its count.
      weighted: by term with token weights, the mean of its values times these.
      weights: by term and group, its own weight at this step.
      reports: by term and group, its value, contribution and share.
      token_weights: by term, their mean, where they are a reweighting's.
      skipped: by term and group, whether its balance skipped this batch.
      memory: as `TrainState.memory`, after this batch.
      expert_load: tokens per expert; None without experts.
      teacher_load: the teacher's; None where it shows none.
      running: what the running state observes, the mean over microbatches; None without
        one.
    """

    params: Tree
    total: Float[Array, ""]
    terms: Mapping[str, Average]
    weighted: Mapping[str, Float[Array, ""]]
    weights: Mapping[str, Float[Array, ""]]
    reports: Mapping[str, TermReport]
    token_weights: Mapping[str, Float[Array, ""]]
    skipped: Mapping[str, Bool[Array, ""]]
    memory: Tree
    expert_load: Float[Array, "layer expert"] | None
    teacher_load: Float[Array, "layer expert"] | None
    running: Float[Array, " n"] | None
