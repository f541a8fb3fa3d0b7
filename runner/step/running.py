"""State of the student that follows its batches: `models.running`."""

from collections.abc import Sequence
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from models.base import Model
from models.running.state import Rule, Running
from runner.state.trees import leaf, with_leaf

Tree = Any
Place = tuple[tuple[str, ...], Rule]
"""Path of a variable among the student's, and what becomes of it."""


def places(student: Model) -> list[Place]:
    """Return the running variables of a student, in the order of their paths."""
    followed = [
        (path, variable.get_metadata()["rule"])
        for path, variable in nnx.to_flat_state(nnx.state(student, Running))
    ]
    followed.sort(key=lambda place: [(isinstance(x, str), x) for x in place[0]])
    return [(tuple(map(str, path)), rule) for path, rule in followed]


def update(
    places: Sequence[Place], variables: Tree, observed: Float[Array, " n"]
) -> Tree:
    """Return `TrainState.variables` with the running state after a step.

    Args:
      places: of the student.
      variables: before the step.
      observed: the mean over microbatches of what the trunk observed.
    """
    student, first = variables["student"], 0
    for path, rule in places:
        before = leaf(student, path)
        now = observed[first : first + before.size].reshape(before.shape)
        student = with_leaf(student, path, rule(before, now))
        first += before.size
    return {**variables, "student": student}
