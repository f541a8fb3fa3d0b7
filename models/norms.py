"""Normalisation of activations by their size."""

import jax
import jax.numpy as jnp
from flax import nnx

from models import sharding


class RmsNorm(nnx.Module):
    """`x / sqrt(mean(x²) + eps) * (scale + offset)` over the last axis, in float32.

    offset: 0 with a scale that starts at one (Llama, Qwen), 1 with a scale that starts
        at zero (Gemma), so that weight decay pulls towards the plain norm.

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
        if eps <= 0:
            raise ValueError(f"eps must be positive, got {eps}")
        self.eps = eps
        self.offset = offset
        start = jax.nn.initializers.constant(1.0 - offset)
        # Unnamed, so replicated: it is small and every device reads all of it.
        self.scale = sharding.parameter(
            start, rngs, (dim,), axes=(None,), dtype=param_dtype
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """`x [*b dim]`, normalised; the type of `x`."""
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        scale = self.scale[...].astype(jnp.float32) + self.offset
        normed = wide * jax.lax.rsqrt(mean_square + self.eps)
        return (normed * jnp.broadcast_to(scale, x.shape)).astype(x.dtype)
