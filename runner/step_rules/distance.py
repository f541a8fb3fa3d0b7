"""Distance of the weights from where they began."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from runner.step_rules.base import StepRule, StepRuleContext

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightDistance(StepRule):
    """`‖θ_t - θ_0‖` of the student, logged; the updates stay as they are.

    The paper finds it to grow like `log t` at high learning rates, as a walk in a
    random potential does, and the same for small and large batches once their rates
    go by the root of the batch. It takes a copy of the weights, float32, in the
    optimiser's state and in checkpoints.

    Source: Hoffer et al. 2017 (arXiv:1705.08741), section 3, equation 4.
    """

    numbers: ClassVar[tuple[str, ...]] = ("distance",)

    def first(self, params: Tree) -> Tree:
        """Return the parameters."""
        return params

    def __call__(
        self, updates: Tree, context: StepRuleContext
    ) -> tuple[Tree, Mapping[str, Float[Array, ""]]]:
        after = jax.tree.map(jnp.add, context.params["student"], updates["student"])
        moved = jax.tree.map(jnp.subtract, after, context.first["student"])
        return updates, {"distance": optax.tree.norm(moved)}
