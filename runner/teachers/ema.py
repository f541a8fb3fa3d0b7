"""The student's own average, or its start, as its teacher."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from models.base import Model
from runner.errors import UserError
from runner.state.trainable import TrainModules
from runner.teachers.base import Teacher, TeacherContext
from runner.teachers.model import LoadedModel

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class EMATeacher(Teacher):
    """`θ' ← d θ' + (1 - d) θ` after every optimiser step, from `θ' = θ`.

    `d = min(decay, (1 + step) / (10 + step))`: a short memory first, so that the random
    start is soon forgotten. The average is part of the train state: float32 whatever
    the student's parameters are, sharded like them, checkpointed, and resumed bit for
    bit.

    Attributes:
      decay: of one optimiser step, from 0 (the student itself) to below 1.

    Source: Tarvainen & Valpola 2017, mean teacher (arXiv:1703.01780), section 2; the
    rise of the decay is TensorFlow's `ExponentialMovingAverage(num_updates)`.

    Raises:
      ValueError: decay is outside [0, 1).
    """

    decay: float = 0.999

    def __post_init__(self):
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")

    def load(self, context: TeacherContext) -> "LoadedEMA":
        if context.modules is None:
            raise UserError(
                "an EMATeacher is its student's average: it needs a student"
            )
        return LoadedEMA(context.modules, self.decay, context.vocabulary.size)

    def init_state(self, student: Tree) -> Tree:
        return student

    def update_state(self, ema: Tree, student: Tree, step: jax.Array) -> Tree:
        count = step.astype(jnp.float32)
        decay = jnp.minimum(jnp.float32(self.decay), (1.0 + count) / (10.0 + count))

        def mix(old: jax.Array, new: jax.Array) -> jax.Array:
            if not jnp.issubdtype(new.dtype, jnp.floating):
                return new
            mean = old.astype(jnp.float32)
            return mean + (1.0 - decay) * (new.astype(jnp.float32) - mean)

        return jax.tree.map(mix, ema, student)


class LoadedEMA(LoadedModel):
    """The student with the averaged arrays, which it reads in its own dtypes."""

    def __init__(self, modules: TrainModules, decay: float, vocab_size: int):
        super().__init__(modules.student, vocab_size)
        self._modules, self._decay = modules, decay

    def arrays(self, frozen: Tree, ema: Tree) -> Tree:
        del frozen
        params, variables = self._modules.abstract_arrays()
        return jax.tree.map(
            lambda mean, own: mean.astype(own.dtype),
            ema,
            {"params": params, "variables": variables},
        )

    def abstract_model(self) -> Model:
        return self._modules.abstract_student()

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "ema", "decay": self._decay}


@dataclasses.dataclass(frozen=True)
class StartTeacher(Teacher):
    """The student's weights before the first step, frozen: a preference's reference.

    Whatever `Experiment.start` made of them. They are part of the train state: float32,
    sharded like the student, in every checkpoint, so that a run that goes on has the
    same reference. Its trunk runs in every step; columns of its log-probabilities
    (`reference=(...)` of the losses) cost nothing.
    """

    def load(self, context: TeacherContext) -> "LoadedOfStart":
        if context.modules is None:
            raise UserError("a StartTeacher is its student's start: it needs a student")
        return LoadedOfStart(context.modules, 1.0, context.vocabulary.size)

    def init_state(self, student: Tree) -> Tree:
        return student


class LoadedOfStart(LoadedEMA):
    """The student with the arrays that it started from."""

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "start"}
