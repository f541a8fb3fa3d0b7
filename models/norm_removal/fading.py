"""A norm that divides by a constant from some step on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.norm_removal import places
from models.norms import LayerNorm, Norm
from models.running.state import Running


@dataclasses.dataclass(frozen=True)
class UntilStep:
    """Moving mean of a number until some step; `[mean, finished steps]`.

    The first step's is the mean's first value. A third entry is a second mean.
    """

    step: int
    rate: float

    def __call__(self, before: jax.Array, observed: jax.Array) -> jax.Array:
        """Return the means and the steps after a step."""
        means = [i for i in range(before.size) if i != 1]
        mean, steps = before[np.array(means)], before[1]
        rate = jnp.where(steps == 0.0, 1.0, self.rate)
        moved = mean + rate * (observed[np.array(means)] - mean)
        moved = jnp.where(steps < self.step, moved, mean)
        return jnp.concatenate([moved[:1], steps[None] + 1.0, moved[1:]])


@dataclasses.dataclass(frozen=True)
class Apart:
    """Steps until which some positions have a constant of their own.

    Attributes:
      first: of the first positions of texts.
      end: of the tokens that end a text, which have that of the first ones.
    """

    first: int
    end: int


class FadingNorm(nnx.Module):
    """`centred(x) / d · (scale + offset) + bias`, its parameters those of `norm`.

    d is the norm's own divisor, of each position, until `step`; from then on it is c,
    the moving mean over steps of the mean of the divisor over positions, and the norm
    is affine. RMSNorm does not centre.

    With `apart`, c is of other positions than the first ones of texts. These have the
    mean of their own, and the tokens that end a text have it too, each until its step.
    Which these are is known while a trunk runs (`places`); elsewhere all have c.

    Args:
      norm: that fades; its parameters become this module's.
      step: finished steps at which d becomes c.
      rate: of the moving mean.
      apart: positions with a constant of their own; None for none.
    """

    def __init__(self, norm: Norm, *, step: int, rate: float, apart: Apart | None):
        self.centres = isinstance(norm, LayerNorm)
        self.eps, self.offset, self.step = norm.eps, norm.offset, step
        self.scale, self.bias = norm.scale, getattr(norm, "bias", None)
        self.apart = apart
        start = [1.0, 0.0] if apart is None else [1.0, 0.0, 1.0]
        self.divisor = Running.of(jnp.array(start), UntilStep(step, rate))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalize `x [*b dim]`, or map it; the result has its type."""
        centred, divisor = self._parts(x)
        divisor = jnp.where(self.divisor[1] >= self.step, self._constant(), divisor)
        scale = self.scale[...].astype(jnp.float32) + self.offset
        y = centred / divisor * jnp.broadcast_to(scale, x.shape)
        if self.bias is not None:
            bias = self.bias[...].astype(jnp.float32)
            y = y + jnp.broadcast_to(bias, x.shape)
        return y.astype(x.dtype)

    def observed(self, x: jax.Array) -> jax.Array:
        """Return what the running state observes of `x`, `[2]`, or `[3]` if apart."""
        divisor = self._parts(x)[1][..., 0]
        at = places.current()
        if self.apart is None or at is None:
            means = [jnp.mean(divisor), jnp.zeros(()), jnp.mean(divisor)]
        else:
            other = jnp.mean(divisor, where=at.other | at.end)
            first = jnp.mean(divisor, where=at.first)
            means = [other, jnp.zeros(()), jnp.where(jnp.any(at.first), first, other)]
        size = self.divisor[...].size
        return jax.lax.stop_gradient(jnp.stack(means[:size]))

    def _constant(self) -> jax.Array:
        """Return c of each position, `[]` or `[b t 1]`."""
        at = places.current()
        if self.apart is None or at is None:
            return self.divisor[0]
        steps, own = self.divisor[1], self.divisor[2]
        is_apart = (at.first & (steps < self.apart.first)) | (
            at.end & (steps < self.apart.end)
        )
        return jnp.where(is_apart, own, self.divisor[0])[..., None]

    def _parts(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return `x` in float32, centred, and the divisor of each position."""
        wide = x.astype(jnp.float32)
        if self.centres:
            wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return wide, jnp.sqrt(square + self.eps)
