"""An optimiser with step rules after it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from runner import optimizers
from runner.errors import UserError
from runner.step_rules.base import StepRule, StepRuleContext

Tree = Any


class RuledState(NamedTuple):
    """State of `ruled`.

    Attributes:
      step: finished steps.
      step_rules: by rule, the numbers of its latest step.
      inner: of the optimiser.
      first: by rule, what it keeps of the parameters before the first step.
    """

    step: jax.Array
    step_rules: dict[str, dict[str, jax.Array]]
    inner: Tree
    first: dict[str, Tree]


def ruled(
    optimizer: optax.GradientTransformation, rules: Mapping[str, StepRule]
) -> optax.GradientTransformationExtraArgs:
    """Apply rules to the updates of an optimiser, one after the other.

    Args:
      optimizer: any. It does not see what the rules change; `averages.averaged` around
        it does.
      rules: by name, an identifier, in order.

    Raises:
      ValueError: there is no rule, or a name is no identifier.
      UserError: where its state is made: the optimiser has rules already.
    """
    if not rules:
        raise ValueError("rules must hold at least one step rule")
    for name in rules:
        if not name.isidentifier():
            raise ValueError(f"the name of a step rule must be one word, got {name!r}")
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Tree) -> RuledState:
        numbers = {
            name: {number: jnp.zeros((), jnp.float32) for number in rule.numbers}
            for name, rule in rules.items()
        }
        inner_state = inner.init(params)
        if optax.tree_utils.tree_get_all_with_path(inner_state, "step_rules"):
            raise UserError(
                "rules: the optimizer has step rules already; give all of them, in "
                "order, to one step_rules.ruled(...)"
            )
        first = {name: rule.first(params) for name, rule in rules.items()}
        return RuledState(jnp.zeros((), jnp.int32), numbers, inner_state, first)

    def update(
        updates: Tree,
        state: Any,
        params: Tree | None = None,
        *,
        value: Any = None,
        slopes: Any = None,
        **extra: Any,
    ) -> tuple[Tree, RuledState]:
        updates, inner_state = inner.update(
            updates, state.inner, params, value=value, slopes=slopes, **extra
        )
        context = StepRuleContext(
            step=state.step, params=params, value=value, slopes=slopes
        )
        numbers = {}
        for name, rule in rules.items():
            own = dataclasses.replace(context, first=state.first[name])
            updates, numbers[name] = rule(updates, own)
        step = state.step + 1
        return updates, RuledState(step, numbers, inner_state, state.first)

    return optimizers.in_float32(optax.GradientTransformationExtraArgs(init, update))
