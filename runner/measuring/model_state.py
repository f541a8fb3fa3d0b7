"""The state of a model from files, as far as an evaluation reads it."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import optax

import losses
from losses import LossTerm
from runner import runtime
from runner.data.dataset import Dataset
from runner.machine import mesh as mesh_lib
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep
from runner.step.requirements import check_data
from runner.teachers.base import LoadedTeacher
from runner.weights import identity, location
from runner.weights.base import Weights
from runner.weights.location import Location
from runner.weights.run import RunWeights


@dataclasses.dataclass(frozen=True)
class ModelState:
    """A model as the student of a step that is never taken.

    Attributes:
      step: Its modules and teacher, on a mesh.
      state: Its arrays.
      weights: Where they come from.
    """

    step: CompiledStep
    state: TrainState
    weights: Weights


def load(
    where: Location,
    datasets: Sequence[Dataset],
    *,
    teacher: LoadedTeacher | None,
    config: runtime.Runtime,
) -> ModelState:
    """Return the model at a location on the mesh, in its own type of parameters.

    Args:
      where: Of a work directory, a published folder or a `.gguf` file.
      datasets: What it is to be measured on.
      teacher: What it is compared with.
      config: The runtime settings.

    Raises:
      UserError: There is no such model, it speaks another vocabulary than the data, or
        cannot read it.
    """
    weights = identity.speaking(
        location.open_at(where), datasets[0].vocabulary, cache=config.input.cache
    )
    items = [LossTerm(name="loss", loss=losses.CrossEntropy())]
    if teacher is not None:  # a term has to read it
        items.append(LossTerm(name="kl", loss=losses.ForwardKL(sparse="tail_bucket")))
    modules = TrainModules(weights.model, items, optax.identity())
    for dataset in datasets[1:]:
        weights.check_vocabulary(dataset.vocabulary, cache=config.input.cache)
    for dataset in datasets:
        check_data(modules, dataset)
    mesh = mesh_lib.make(config.mesh)
    step = CompiledStep(modules, mesh=mesh, config=config, seed=0, teacher=teacher)
    return ModelState(step, _state(step, weights), weights)


def _state(step: CompiledStep, weights: Weights) -> TrainState:
    abstract = step.state
    arrays = weights.read(
        {
            "params": abstract.params["student"],
            "variables": abstract.variables["student"],
        }
    )
    number = weights.step if isinstance(weights, RunWeights) else 0
    return dataclasses.replace(
        abstract,
        step=jnp.int32(number),
        params={**abstract.params, "student": arrays["params"]},
        variables={**abstract.variables, "student": arrays["variables"]},
    )
