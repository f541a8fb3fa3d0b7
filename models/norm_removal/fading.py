"""A norm that divides by a constant from some step on."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from models.norms import LayerNorm, Norm
from models.running.state import Running


@dataclasses.dataclass(frozen=True)
class UntilStep:
    """Moving mean of a number until some step; `[mean, finished steps]`.

    The first step's is the mean's first value.
    """

    step: int
    rate: float

    def __call__(self, before: jax.Array, observed: jax.Array) -> jax.Array:
        """Return the mean and the steps after a step."""
        mean, steps = before
        rate = jnp.where(steps == 0.0, 1.0, self.rate)
        moved = mean + rate * (observed[0] - mean)
        return jnp.stack([jnp.where(steps < self.step, moved, mean), steps + 1.0])


class FadingNorm(nnx.Module):
    """`centred(x) / d · (scale + offset) + bias`, its parameters those of `norm`.

    d is the norm's own divisor, of each position, until `step`; from then on it is c,
    the moving mean over steps of the mean of the divisor over positions, and the norm
    is affine. RMSNorm does not centre.

    Args:
      norm: that fades; its parameters become this module's.
      step: finished steps at which d becomes c.
      rate: of the moving mean.
    """

    def __init__(self, norm: Norm, *, step: int, rate: float):
        self.centres = isinstance(norm, LayerNorm)
        self.eps, self.offset, self.step = norm.eps, norm.offset, step
        self.scale, self.bias = norm.scale, getattr(norm, "bias", None)
        self.divisor = Running.of(jnp.array([1.0, 0.0]), UntilStep(step, rate))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalize `x [*b dim]`, or map it; the result has its type."""
        centred, divisor = self._parts(x)
        constant, steps = self.divisor[...]
        divisor = jnp.where(steps >= self.step, constant, divisor)
        scale = self.scale[...].astype(jnp.float32) + self.offset
        y = centred / divisor * jnp.broadcast_to(scale, x.shape)
        if self.bias is not None:
            bias = self.bias[...].astype(jnp.float32)
            y = y + jnp.broadcast_to(bias, x.shape)
        return y.astype(x.dtype)

    def observed(self, x: jax.Array) -> jax.Array:
        """Return what the running state observes of `x`, `[2]`."""
        mean = jnp.mean(self._parts(x)[1])
        return jax.lax.stop_gradient(jnp.stack([mean, jnp.zeros(())]))

    def _parts(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return `x` in float32, centred, and the divisor of each position."""
        wide = x.astype(jnp.float32)
        if self.centres:
            wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return wide, jnp.sqrt(square + self.eps)
