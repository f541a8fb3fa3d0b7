"""Logits of a head that a loss owns."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Affine = tuple[Float[Array, "d e"], Float[Array, " e"]]
"""Kernel and bias."""


def own_head_logits(
    hidden: Float[Array, "*b d"],
    last: Affine,
    first: Affine | None = None,
    *,
    dtype: str = "float32",
) -> Float[Array, "*b v"]:
    """Return `W h + b`, or `W relu(U h + a) + b`, float32.

    `OwnHead` is its inner loss of these logits in place of the student's.

    Source: DHKD (arXiv:2411.08937).

    Args:
      hidden: h, what the student's own head reads.
      last: W and b.
      first: U and a; None for one layer.
      dtype: that products are multiplied in; they are accumulated in float32.
    """
    if first is not None:
        hidden = jax.nn.relu(affine(hidden, *first, dtype=dtype))
    return affine(hidden, *last, dtype=dtype)


def affine(
    x: Float[Array, "*b d"],
    kernel: Float[Array, "d e"],
    bias: Float[Array, " e"],
    *,
    dtype: str = "float32",
) -> Float[Array, "*b e"]:
    """Return `x W + b`, multiplied in `dtype`, accumulated in float32."""
    product = jnp.einsum(
        "...d,dv->...v",
        x.astype(dtype),
        kernel.astype(dtype),
        preferred_element_type=jnp.float32,
    )
    return product + bias.reshape((1,) * (product.ndim - 1) + bias.shape)
