"""Phase 1 of a step: the trunk over a microbatch, with the way back."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from models.base import Batch
from runner.head.head import Head
from runner.state.trainable import TrainModules
from runner.step.requirements import TRUNK
from runner.teachers.base import TeacherTrunk

Tree = Any


@dataclasses.dataclass(frozen=True)
class StudentTrunk:
    """A microbatch after its trunk, every array `[*b ...]`.

    tokens:    what is differentiated: hidden, and the intermediates that can be.
    constants: what is not: batch, masks by term, token weights by term where they are
               made beforehand, integer intermediates, what the teacher has for each
               token.
    pullback:  cotangents of `tokens` to those of the student's parameters.
    """

    tokens: Tree
    constants: Tree
    pullback: Callable[[Tree], tuple[Tree]]
    head: Head
    teacher_trunk: TeacherTrunk | None

    def reweighted(self, weights: Tree) -> "StudentTrunk":
        """With token weights `[*b]` by term."""
        constants = {**self.constants, "reweighted": weights}
        return dataclasses.replace(self, constants=constants)

    @property
    def intermediates(self) -> dict[str, jax.Array]:
        """All of them, by path."""
        return {**self.tokens["intermediates"], **self.constants["intermediates"]}


def forward(
    modules: TrainModules,
    params: Tree,
    variables: Tree,
    batch: Batch,
    masks: Tree,
    *,
    capture: frozenset[str],
    remat: str,
    teacher_trunk: TeacherTrunk | None = None,
) -> StudentTrunk:
    """Run the student's trunk, keeping its vjp; `lesson` is of the same microbatch."""

    def trunk(params: Tree) -> tuple[Tree, Tree]:
        seen = modules.student(params, variables).trunk(
            batch, capture=capture - {TRUNK}, remat=remat
        )
        floats, integers = _by_kind(seen.intermediates)
        if TRUNK in capture:
            floats = {**floats, TRUNK: seen.hidden}
        return {"hidden": seen.hidden, "intermediates": floats}, integers

    tokens, pullback, integers = jax.vjp(trunk, params, has_aux=True)
    return StudentTrunk(
        tokens=tokens,
        constants={
            "batch": _tokenwise(batch),
            "masks": masks,
            "reweighted": {},
            "intermediates": integers,
            "teacher": {} if teacher_trunk is None else teacher_trunk.tokens,
        },
        pullback=pullback,
        head=Head(modules.student, params, variables, tokens["hidden"]),
        teacher_trunk=teacher_trunk,
    )


def _by_kind(intermediates: Mapping[str, jax.Array]) -> tuple[dict, dict]:
    """Intermediates that can be differentiated, and those that cannot."""
    floats = {
        path: x
        for path, x in intermediates.items()
        if jnp.issubdtype(x.dtype, jnp.inexact)
    }
    return floats, {p: x for p, x in intermediates.items() if p not in floats}


def _tokenwise(batch: Batch) -> dict[str, jax.Array]:
    """The entries `[*b ...]`; what is given once a row is repeated along it."""
    axes = batch["targets"].shape
    kept = {}
    for name, x in batch.items():
        if x.shape[: len(axes)] == axes:
            kept[name] = x
        elif x.ndim == 1:
            wide = x.reshape(x.shape + (1,) * (len(axes) - 1))
            kept[name] = jnp.broadcast_to(wide, axes)
    return kept
