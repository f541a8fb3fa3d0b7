"""Features: what losses own to map them, and distances of student and teacher.

The loss classes take the mean of the distances over pairs of layers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.functional.masks import counted, where_counted

SHORTEST = 1e-12
"""Squared length below which a vector has no direction, and no gradient for one."""

SMALLEST_COVARIANCE = 1e-24
"""Squared norm of a covariance below which nothing varies: the similarity is 0."""

Features = Float[Array, "*b d"]
PerToken = Float[Array, "*b"]
Affine = tuple[Float[Array, "d e"], Float[Array, " e"]]
"""Kernel and bias."""


def feature_mse(student: Features, teacher: Features) -> PerToken:
    """Return `1/d Σ_j (s_j - t_j)²`.

    Source: Romero et al. 2014, FitNets (arXiv:1412.6550), eq. 3; Jiao et al. 2019,
    TinyBERT (arXiv:1909.10351), eq. 8.
    """
    gap = student.astype(jnp.float32) - teacher.astype(jnp.float32)
    return jnp.mean(jnp.square(gap), axis=-1)


def feature_cosine(student: Features, teacher: Features) -> PerToken:
    """Return `1 - <s, t> / (|s| |t|)`, 0 to 2; 1 where either vector is zero.

    Source: Sanh et al. 2019, DistilBERT (arXiv:1910.01108), section 3.
    """
    return 1.0 - jnp.sum(_direction(student) * _direction(teacher), axis=-1)


def _direction(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    x = x.astype(jnp.float32)
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    somewhere = square > SHORTEST
    inverse = jax.lax.rsqrt(jnp.where(somewhere, square, 1.0))
    return jnp.where(somewhere, x * inverse, 0.0)


def project(
    x: Float[Array, "*b d"], kernel: Float[Array, "d e"]
) -> Float[Array, "*b e"]:
    """Return `W x` in float32, as `Projected` has it before its inner loss."""
    return x.astype(jnp.float32) @ kernel


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


def cka(
    student: Float[Array, "*b d"],
    teacher: Float[Array, "*b e"],
    mask: Bool[Array, "*b"] | None = None,
) -> Float[Array, ""]:
    """Return `1 - |C_xy|² / (|C_xx| |C_yy|)`, 0 to 1, over the tokens of these arrays.

    `C` are covariances over the counted tokens, norms are Frobenius'. The loss class
    has one value per token, whose mean over the global batch is this.

    Source: Kornblith et al. 2019 (arXiv:1905.00414), eq. 4.

    Args:
      student: x.
      teacher: y.
      mask: the tokens that count; None for all.
    """
    tokens = counted(mask, student.shape[:-1])
    weights = tokens.reshape(-1, 1) / jnp.maximum(jnp.sum(tokens), 1.0)

    def centred(a: Float[Array, "*b d"]) -> Float[Array, "n d"]:
        flat = flatten_tokens(a)
        return flat - jnp.sum(flat * weights, axis=0, keepdims=True)

    def covariance(
        a: Float[Array, "n d"], b: Float[Array, "n e"]
    ) -> Float[Array, "d e"]:
        return contract("nd,ne->de", a * weights, b)

    x, y = (centred(where_counted(a, mask)) for a in (student, teacher))

    return 1.0 - alignment(covariance(x, y), covariance(x, x), covariance(y, y))


def alignment(
    xy: Float[Array, "d e"], xx: Float[Array, "d d"], yy: Float[Array, "e e"]
) -> Float[Array, ""]:
    """Return `|C_xy|² / (|C_xx| |C_yy|)` of covariances; 0 where a side is constant."""
    x, y = (jnp.sum(jnp.square(covariance)) for covariance in (xx, yy))
    varies = (x > SMALLEST_COVARIANCE) & (y > SMALLEST_COVARIANCE)
    x, y = (jnp.where(varies, square, 1.0) for square in (x, y))
    similarity = jnp.sum(jnp.square(xy)) * jax.lax.rsqrt(x) * jax.lax.rsqrt(y)
    return jnp.where(varies, similarity, 0.0)


def contract(
    equation: str, x: Float[Array, "..."], y: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return an einsum in full float32: a covariance is a difference of large sums."""
    return jnp.einsum(equation, x, y, precision=jax.lax.Precision.HIGHEST)


def flatten_tokens(x: Float[Array, "*b d"]) -> Float[Array, "n d"]:
    """Return `[*b d]` as float32 `[n d]`."""
    return x.astype(jnp.float32).reshape(-1, x.shape[-1])


def norm_spread(
    hidden: Float[Array, "*b d"],
    ordinary: Bool[Array, "*b"],
    mask: Bool[Array, "*b"] | None = None,
) -> Float[Array, ""]:
    """Return `E[(σ_t - E_o[σ])²]`, over the tokens of these arrays.

    The loss class has one value per token, and means over the global batch.

    Source: Baroni et al. 2025 (arXiv:2507.02559), its auxiliary loss.

    Args:
      hidden: σ is the standard deviation of its entries.
      ordinary: the tokens of the inner mean, whose gradient is stopped.
      mask: the tokens that count; None for all.
    """
    deviations = stddev_of_entries(where_counted(hidden, mask))
    counts = counted(mask, deviations.shape)
    inner = counts * ordinary.astype(counts.dtype)
    mean = jnp.sum(inner * deviations) / jnp.maximum(jnp.sum(inner), 1.0)
    values = norm_spread_from_mean(deviations, jax.lax.stop_gradient(mean))
    return jnp.sum(counts * values) / jnp.maximum(jnp.sum(counts), 1.0)


def norm_spread_from_mean(deviations: PerToken, mean: Float[Array, ""]) -> PerToken:
    """Return `(σ_t - mean)²`."""
    return jnp.square(deviations - mean)


def stddev_of_entries(x: Float[Array, "*b d"]) -> PerToken:
    """Return `sqrt(var_d x + 1e-5)`, as a norm divides by, float32."""
    return jnp.sqrt(jnp.var(x.astype(jnp.float32), axis=-1) + 1e-5)
