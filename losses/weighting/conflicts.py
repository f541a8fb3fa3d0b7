"""A weight that takes out of other terms what works against its own."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.batch_weights import Balance, BalanceInputs, Combination
from losses.core.checks import check_choice, check_finite

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unopposed(Balance):
    """`1 + max(0, -c)`, `c = <g, ∂L> / ‖∂L‖²`: the weight that a projection gives.

    Where the gradient g of another term, `of_weight` included, works against this
    term's own ∂L, `g - c ∂L` does not: it is orthogonal to it. The sum of both is
    `(1 - c) ∂L + g`, so that the projection is a weight of this term. Elsewhere it is
    1. As the weight of a cross-entropy beside `OwnHead`, the gradient alignment of
    dual-head distillation:

        LossTerm("ce", CrossEntropy(), weight=Unopposed(of="kd", of_weight=0.1))
        LossTerm("kd", OwnHead(...), weight=0.1)

    Gradients are those of the global batch. A batch on which they are not finite, or
    the own one is 0, has weight 1.

    Source: DHKD (arXiv:2411.08937), its gradient alignment; PCGrad (arXiv:2001.06782),
    algorithm 1, of one term only.

    Attributes:
      of: name of the other term.
      of_weight: its weight.
      over: `"outputs"`, gradients in the trunk's outputs, as of `MatchGradient`; or
        `"parameters"`, in all that are trained, as in the source: one more backward
        pass a term, and what is read inside of the trunk, as the second head of
        `models.SecondHead` is, counts too.

    Raises:
      ValueError: the weight is not finite, or `over` is neither.
    """

    of: str
    of_weight: float = 1.0
    over: Literal["outputs", "parameters"] = "outputs"

    def __post_init__(self):
        check_finite(self)
        check_choice("over", self.over, ("outputs", "parameters"))

    @property
    def wants(self):  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return "gradients" if self.over == "outputs" else "parameter gradients"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.of,)

    def __call__(
        self, own: Combination, inputs: BalanceInputs, params: Tree, memory: Tree
    ) -> tuple[Float[Array, ""], Tree]:
        del params
        other = {self.of: jnp.float32(self.of_weight)}
        squared = inputs.inner_product(own, own, over=self.over)
        measured = jnp.isfinite(squared) & (squared > 0.0)
        product = inputs.inner_product(own, other, over=self.over)
        share = product / jnp.where(measured, squared, 1.0)
        opposed = measured & jnp.isfinite(share)
        return 1.0 + jnp.where(opposed, jnp.maximum(-share, 0.0), 0.0), memory
