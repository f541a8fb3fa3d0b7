"""Divergence between the student's predictions on two views of the batch."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional.divergences import forward_kl
from losses.views.paths import check_view, logits_on, path_on

_RIGHT = "share that is right"


class _ViewKL(Loss, abstract=True):
    first: str
    second: str

    def _check(self) -> None:
        for field in ("first", "second"):
            if getattr(self, field):
                check_view(getattr(self, field), field)
        if self.first == self.second:
            raise ValueError(f"first and second are both {self.first!r}")

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        return frozenset(path_on(x, "logits") for x in (self.first, self.second))

    def _divergence(self, outputs: Outputs) -> PerToken:
        first, second = (logits_on(outputs, x) for x in (self.first, self.second))
        return forward_kl(second, first)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewKL(_ViewKL):
    """`KL(q(first) ‖ q(second))`, nats, of the student on two views.

    Both sides have a gradient. `first=""` and an attack as the second, beside a
    cross-entropy, is TRADES (arXiv:1901.08573); an attack as the first and
    `second=""` is the second half of L_logit of AdvFLYP (arXiv:2604.11576).

    Attributes:
      first: name of a view; "" is the batch itself.
      second: likewise.

    Raises:
      ValueError: one is no name, or both are the same.
    """

    first: str = ""
    second: str
    tiled = False

    def __post_init__(self):
        self._check()

    def __call__(self, outputs: Outputs) -> PerToken:
        return self._divergence(outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitPairing(_ViewKL):
    """`1/n_c Σ_{i in G} KL(q(first)_i ‖ q(second)_i)`, nats; 0 where G is empty.

    G are the n_c tokens whose target is the most probable output on the first view,
    over the global batch: n_c is known before the gradient, whatever the batch is cut
    into. Both sides have a gradient, as in the authors' code.

    Source: Jiang and Singh 2024, RAMP (arXiv:2402.06827), L_KL, of an l-infinity view
    first and an l1 view second; its weight is 2 in the text, 5 in the scripts that gave
    its table.

    Attributes:
      first: name of a view; "" is the batch itself.
      second: likewise.

    Raises:
      ValueError: one is no name, or both are the same.
    """

    first: str
    second: str
    tiled = False

    def __post_init__(self):
        self._check()

    def statistics(self, outputs: Outputs) -> Mapping[str, Float[Array, "*b"]]:
        return {_RIGHT: self._right(outputs)}

    def __call__(self, outputs: Outputs) -> PerToken:
        share = outputs.statistics[_RIGHT]
        scale = jnp.where(share > 0.0, 1.0 / jnp.where(share > 0.0, share, 1.0), 0.0)
        return scale * self._right(outputs) * self._divergence(outputs)

    def _right(self, outputs: Outputs) -> PerToken:
        predicted = jnp.argmax(logits_on(outputs, self.first), axis=-1)
        return (predicted == outputs.batch["targets"]).astype(jnp.float32)
