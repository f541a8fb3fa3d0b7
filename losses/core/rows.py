"""Sums and entries of whole rows of logits, masked without a copy of the rows.

Where nothing is differentiated (evaluations, statistics, recordings) sums are masked,
not rows, and an entry is gathered. Where something is, rows are masked before the sum:
the gradient of a masked NaN would be 0 · NaN.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class MaskedLogNormalizers(dict[float, Float[Array, "*b"]]):
    """Log-normalisers, by temperature, of logits that are zero outside a mask."""

    def __init__(self, logits: Float[Array, "*b v"], mask: Bool[Array, "*b"]):
        super().__init__()
        self._logits, self._mask = logits, mask

    def __missing__(self, temperature: float) -> Float[Array, "*b"]:
        self[temperature] = _masked_log_normalizer(
            self._logits, self._mask, temperature
        )
        return self[temperature]


@jax.custom_jvp
def picked(logits: Float[Array, "*b v"], ids: Int[Array, "*b"]) -> Float[Array, "*b"]:
    """Return `s_i` at one id a token, 0 at ids outside of the vocabulary."""
    beyond = jnp.where(ids < 0, logits.shape[-1], ids)[..., None]
    entries = jnp.take_along_axis(logits, beyond, axis=-1, mode="fill", fill_value=0)
    return entries[..., 0]


@picked.defjvp
def _picked_jvp(primals, tangents):
    (logits, ids), (d_logits, _) = primals, tangents

    def of_rows(logits: Float[Array, "*b v"]) -> Float[Array, "*b"]:
        # A select and a sum fuse; the gradient of a gather would be a scatter.
        vocabulary = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
        is_id = vocabulary == ids[..., None]
        return jnp.sum(jnp.where(is_id, logits, 0.0), axis=-1)

    return jax.jvp(of_rows, (logits,), (d_logits,))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _masked_log_normalizer(
    logits: Float[Array, "*b v"], mask: Bool[Array, "*b"], temperature: float
) -> Float[Array, "*b"]:
    """Return `log Σ_v exp(s_v / T)`, of zeros where `mask` is false."""
    # All masks share this sum.
    total = jax.nn.logsumexp(logits / temperature, axis=-1)
    return jnp.where(mask, total, math.log(logits.shape[-1]))


@_masked_log_normalizer.defjvp
def _masked_log_normalizer_jvp(temperature, primals, tangents):
    (logits, mask), (d_logits, _) = primals, tangents

    def of_rows(logits: Float[Array, "*b v"]) -> Float[Array, "*b"]:
        rows = jnp.where(mask[..., None], logits, 0.0)  # 0 · NaN would be NaN
        return jax.nn.logsumexp(rows / temperature, axis=-1)

    return jax.jvp(of_rows, (logits,), (d_logits,))
