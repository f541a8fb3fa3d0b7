"""Losses that are one function of means over the global batch."""

import abc
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken

Means = Mapping[str, Float[Array, "..."]]


class OfMeans(Loss, abstract=True):
    """`f(A)`, of the masked means `A = E_t[a_t]` over the global batch.

    No sum over tokens, yet its gradient is one: the value of a token is

        f(A) + <∇f(A), a_t - A>    with A known and its gradient stopped,

    whose mean over the counted tokens is `f(A)`, and whose gradient is `∇f(A) · dA`,
    that of `f` itself. So it is exact under accumulation, token blocks and any mesh,
    for the price of the pass that computes A. The value of one token means nothing, and
    a token weight would weigh gradients alone.

    A loss defines `a_t` as `statistics`, and `f` as `of_means`. Where `a_t` is too
    large to exist once a token (an outer product), it defines `statistic_sums` and
    `deviation` instead.
    """

    @abc.abstractmethod
    def of_means(self, means: Means) -> Float[Array, ""]:
        """Return `f(A)`, float32; finite, and so its gradient, at means of zero."""

    def deviation(self, outputs: Outputs, slopes: Means) -> PerToken:
        """Return `<∇f(A), a_t - A>`, `[*b]`; `slopes` is `∇f(A)`, by name as A is."""
        per_token = self.statistics(outputs)
        total = jnp.zeros(outputs.batch["targets"].shape, jnp.float32)
        for name, slope in slopes.items():
            mean = outputs.statistics[name]
            axes = mean.ndim
            at_token = jnp.tensordot(per_token[name], slope, axes=axes)
            total = total + at_token - jnp.tensordot(mean, slope, axes=axes)
        return total

    def value_and_slopes(self, means: Means) -> tuple[Float[Array, ""], Means]:
        """Return `f(A)` and `∇f(A)`."""
        return jax.value_and_grad(self.of_means)(dict(means))

    def __call__(self, outputs: Outputs) -> PerToken:
        means = jax.lax.stop_gradient(outputs.statistics)
        value, slopes = self.value_and_slopes(means)
        return value + self.deviation(outputs, slopes)
