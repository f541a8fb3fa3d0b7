"""Balance without a loss: biases of experts, moved after each optimiser step."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from models import expert_bias
from models.base import Model
from models.expert_bias import ExpertBias
from runner.state.trainable import TrainModules

Tree = Any


def advanced(modules: TrainModules, variables: Tree, load: jax.Array | None) -> Tree:
    """`TrainState.variables` after a step whose batch loaded the experts so.

    load: `[layer expert]` tokens over the global batch, so that the outcome depends on
        neither microbatches nor mesh; None where there are no experts.
    """
    student, first = variables["student"], 0
    for path, rate in _places(modules.abstract_student()):
        bias = _at(student, path)
        layers = 1 if bias.ndim == 1 else bias.shape[0]
        assert load is not None  # what has a bias has routers
        here = load[first : first + layers].reshape(bias.shape)
        student = _with(student, path, expert_bias.update(bias, here, rate=rate))
        first += layers
    return {**variables, "student": student}


def _places(student: Model) -> list[tuple[tuple[str, ...], float]]:
    """Paths of the biases in the order of their layers, with their rates."""
    found = [
        (path, variable.get_metadata()["rate"])
        for path, variable in nnx.to_flat_state(nnx.state(student, ExpertBias))
    ]
    found.sort(key=lambda place: [(isinstance(x, str), x) for x in place[0]])
    return [(tuple(map(str, path)), rate) for path, rate in found]


def _at(tree: Mapping[str, Tree], path: tuple[str, ...]) -> jax.Array:
    for key in path:
        tree = tree[key]
    return tree  # pyright: ignore[reportReturnType] - a leaf, at the end of the path


def _with(tree: Tree, path: tuple[str, ...], value: jax.Array) -> Tree:
    """`tree` with another leaf; the nodes on the way are copied."""
    if not path:
        return value
    return {**tree, path[0]: _with(tree[path[0]], path[1:], value)}
