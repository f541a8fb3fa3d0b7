"""Normalization layers: RMSNorm and LayerNorm for tokens, GroupNorm for images."""

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, sharding
from models.initializers import Constant


class RMSNorm(nnx.Module):
    """`x / sqrt(mean(x²) + eps) * (scale + offset)` over the last axis, in float32.

    Args:
      dim: length of the last axis.
      eps: added to the mean square.
      offset: 0 with a scale that starts at one (Llama, Qwen), 1 with a scale that
        starts at zero (Gemma), so that weight decay pulls towards the plain norm.
      param_dtype: type of the scale.
      rngs: of the initial values.

    Source: Zhang & Sennrich 2019 (arXiv:1910.07467), equation 4.
    """

    def __init__(
        self,
        *,
        dim: int,
        eps: float = 1e-6,
        offset: float = 0.0,
        param_dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        checks.positive(eps=eps)
        self.eps = eps
        self.offset = offset
        start = Constant(1.0 - offset)
        # Unnamed, so replicated: it is small and every device reads all of it.
        self.scale = sharding.parameter(
            start, rngs, (dim,), axes=(None,), dtype=param_dtype
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalize `x [*b dim]`; the result has its type."""
        wide = _rows(x).astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        scale = self.scale[...].astype(jnp.float32) + self.offset
        normed = wide * jax.lax.rsqrt(mean_square + self.eps)
        normed = normed * jnp.broadcast_to(scale, wide.shape)
        return normed.astype(x.dtype).reshape(x.shape)


class LayerNorm(nnx.Module):
    """`(x - mean) / sqrt(variance + eps) * (scale + offset) + bias`, in float32.

    Args:
      dim: length of the last axis, which mean and variance are over.
      eps: added to the variance.
      offset: as of `RMSNorm`.
      biased: whether there is a bias.
      param_dtype: type of scale and bias.
      rngs: of the initial values.

    Source: Ba et al. 2016 (arXiv:1607.06450), equation 4.
    """

    def __init__(
        self,
        *,
        dim: int,
        eps: float = 1e-5,
        offset: float = 0.0,
        biased: bool = True,
        param_dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        checks.positive(eps=eps)
        self.eps, self.offset = eps, offset

        def vector(value: float) -> nnx.Param:
            start = Constant(value)
            return sharding.parameter(
                start, rngs, (dim,), axes=(None,), dtype=param_dtype
            )

        self.scale = vector(1.0 - offset)
        self.bias = vector(0.0) if biased else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalize `x [*b dim]`; the result has its type."""
        wide = _rows(x).astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        scale = self.scale[...].astype(jnp.float32) + self.offset
        normed = centred * jax.lax.rsqrt(variance + self.eps)
        normed = normed * jnp.broadcast_to(scale, wide.shape)
        if self.bias is not None:
            bias = self.bias[...].astype(jnp.float32)
            normed = normed + jnp.broadcast_to(bias, wide.shape)
        return normed.astype(x.dtype).reshape(x.shape)


Norm = RMSNorm | LayerNorm
NORMS: dict[str, type[RMSNorm] | type[LayerNorm]] = {
    "rms": RMSNorm,
    "layer": LayerNorm,
}
"""Norms of a residual stream, by name."""


class GroupNorm(nnx.Module):
    """`(x - mean) / sqrt(variance + eps) * scale + offset`, both over a group.

    A group is `dim / groups` neighbouring channels of one image, over all its places.
    Unlike batch norm it has no running statistics and sees no other image, so that
    batch size, microbatches and padding change nothing.

    Source: Wu & He 2018 (arXiv:1803.08494), equations 1 to 4.
    """

    def __init__(
        self,
        *,
        dim: int,
        groups: int,
        eps: float = 1e-5,
        param_dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if groups < 1 or dim % groups:
            raise ValueError(f"{dim} channels do not divide into {groups} groups")
        self.groups, self.eps = groups, eps

        def vector(value: float) -> nnx.Param:
            start = Constant(value)
            return sharding.parameter(
                start, rngs, (dim,), axes=(None,), dtype=param_dtype
            )

        self.scale, self.offset = vector(1.0), vector(0.0)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalize `x [b ... dim]` in float32; the result has its type."""
        wide = x.astype(jnp.float32)
        wide = wide.reshape(x.shape[0], -1, self.groups, x.shape[-1] // self.groups)
        centred = wide - jnp.mean(wide, axis=(1, 3), keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=(1, 3), keepdims=True)
        normed = (centred * jax.lax.rsqrt(variance + self.eps)).reshape(x.shape)
        scale, offset = (
            jnp.broadcast_to(vector[...].astype(jnp.float32), x.shape)
            for vector in (self.scale, self.offset)
        )
        return (normed * scale + offset).astype(x.dtype)


def _rows(x: jax.Array) -> jax.Array:
    """Return `x` without axes of one element; the last axis stays.

    XLA for CPUs sums products over the last axis, as gradients of norms do, at 0.4 ns
    an element, and at 5 where any axis before it has one element, as a batch of one row
    has (jaxlib 0.10.2, float32).
    """
    return x.reshape(*(size for size in x.shape[:-1] if size != 1), x.shape[-1])
