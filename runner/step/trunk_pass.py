"""Trunk forward over a microbatch, keeping its vjp."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from models.base import Batch
from models.running.state import RUNNING
from runner.state.trainable import TrainModules
from runner.step.arrays import BlockConstants, BlockTokens, Tokens
from runner.step.requirements import TRUNK
from runner.teachers.base import TeacherTrunk

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentTrunk:
    """A microbatch after the trunks of student and teacher.

    Attributes:
      tokens: trunk outputs that are differentiated.
      constants: arrays beside them that are not.
      pullback: cotangents of `tokens` to those of the student's parameters.
      teacher: the teacher's trunk; None without a teacher.
      running: what the student's running state observes; None without one.
    """

    tokens: BlockTokens
    constants: BlockConstants
    pullback: Callable[[BlockTokens], tuple[Tree]]
    teacher: TeacherTrunk | None
    running: Float[Array, " n"] | None

    @property
    def intermediates(self) -> dict[str, Shaped[Array, "..."]]:
        """All intermediates, by path."""
        return {**self.tokens.intermediates, **self.constants.intermediates}

    @functools.cached_property
    def token_axes(self) -> tuple[int, ...]:
        """`*b` of the microbatch."""
        return self.constants.batch["targets"].shape

    def with_weights_of(self, tokens: Tokens) -> "StudentTrunk":
        """Return it with the token weights of the same microbatch, known since."""
        weights = tokens.token_weights
        constants = dataclasses.replace(self.constants, token_weights=weights)
        return dataclasses.replace(self, constants=constants)


def forward(
    modules: TrainModules,
    params: Tree,
    variables: Tree,
    tokens: Tokens,
    *,
    capture: frozenset[str],
    remat: str,
    teacher: TeacherTrunk | None,
) -> StudentTrunk:
    """Run the student's trunk.

    Args:
      modules: the student, without its arrays.
      params: its parameters, `TrainState.params["student"]`.
      variables: `TrainState.variables["student"]`.
      tokens: the microbatch.
      capture: paths of the intermediates to keep.
      remat: as `runtime.Step.remat`.
      teacher: the teacher's trunk over the same microbatch.
    """

    def trunk(params: Tree) -> tuple[BlockTokens, Tree]:
        outputs = modules.student(params, variables).trunk(
            tokens.batch, capture=capture - {TRUNK}, remat=remat
        )
        floats, integers = _split_by_dtype(outputs.intermediates)
        running = floats.pop(RUNNING, None)
        if TRUNK in capture:
            floats = {**floats, TRUNK: outputs.hidden}
        tokens_out = BlockTokens(hidden=outputs.hidden, intermediates=floats)
        return tokens_out, (integers, running)

    # Its vjp waits for the cotangents that the blocks of tokens add up.
    outputs, pullback, (integers, running) = jax.vjp(trunk, params, has_aux=True)
    return StudentTrunk(
        tokens=outputs,
        constants=BlockConstants(
            batch=_per_token(tokens.batch),
            masks=tokens.masks,
            token_weights=tokens.token_weights,
            intermediates=integers,
            teacher={} if teacher is None else teacher.tokens,
        ),
        pullback=pullback,
        teacher=teacher,
        running=running,
    )


def _split_by_dtype(
    intermediates: Mapping[str, Shaped[Array, "..."]],
) -> tuple[dict, dict]:
    """Intermediates that can be differentiated, and those that cannot."""
    floats = {
        path: x
        for path, x in intermediates.items()
        if jnp.issubdtype(x.dtype, jnp.inexact)
    }
    return floats, {p: x for p, x in intermediates.items() if p not in floats}


def _per_token(batch: Batch) -> dict[str, Shaped[Array, "..."]]:
    """Entries `[*b ...]`; an entry `[B]` is repeated along the row."""
    axes = batch["targets"].shape
    entries = {}
    for name, x in batch.items():
        if x.shape[: len(axes)] == axes:
            entries[name] = x
        elif x.ndim == 1:
            column = x.reshape(x.shape + (1,) * (len(axes) - 1))
            entries[name] = jnp.broadcast_to(column, axes)
    return entries
