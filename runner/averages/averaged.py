"""Averages of the weights as a part of the optimiser's state."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from runner import optimizers
from runner.averages.rules import MEAN, Average
from runner.errors import UserError, nearest

Tree = Any


class AveragedState(NamedTuple):
    """State of `averaged`.

    Attributes:
      step: finished steps.
      averages: by name, the state of each.
      inner: of the optimiser.
    """

    step: jax.Array
    averages: dict[str, dict[str, Tree]]
    inner: Tree


def averaged(
    optimizer: optax.GradientTransformation, averages: Mapping[str, Average]
) -> optax.GradientTransformationExtraArgs:
    """Keep averages of the weights beside an optimiser, whose updates stay as they are.

    Args:
      optimizer: any; it stands outermost in `Experiment.optimizer`.
      averages: by name, an identifier.

    Raises:
      ValueError: a name is no identifier.
    """
    for name in averages:
        if not name.isidentifier():
            raise ValueError(f"the name of an average must be one word, got {name!r}")
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Tree) -> AveragedState:
        return AveragedState(
            step=jnp.zeros((), jnp.int32),
            averages={name: x.init(params) for name, x in averages.items()},
            inner=inner.init(params),
        )

    def update(
        updates: Tree, state: Any, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, AveragedState]:
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        after, step = optimizers.apply_updates(params, updates), state.step + 1
        moved = {
            name: average.update(state.averages[name], after, step)
            for name, average in averages.items()
        }
        return updates, AveragedState(step, moved, inner_state)

    return optimizers.in_float32(optax.GradientTransformationExtraArgs(init, update))


def student(opt_state: Tree, name: str, params: Tree) -> Tree:
    """Return the averaged weights of the student, in the dtypes of its own.

    Args:
      opt_state: of the train state.
      name: of the average.
      params: the student's.

    Raises:
      UserError: the optimiser keeps no such average; with those it keeps.
    """
    kept = opt_state.averages if isinstance(opt_state, AveragedState) else {}
    if name not in kept:
        hint = nearest(name, kept) or "; it keeps none, see runner.averages.averaged"
        raise UserError(f"average: the optimizer keeps no {name!r}{hint}")
    mean = kept[name][MEAN]["student"]
    return jax.tree.map(
        lambda x, own: x.astype(own.dtype) if isinstance(x, jax.Array) else own,
        mean,
        params,
    )
