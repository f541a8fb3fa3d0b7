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

_Known = tuple[Float[Array, "*b v"], Float[Array, "*b"]]


class LogNormalizers:
    """Log-normalisers of rows of logits, each computed once.

    They are known by the array that they are of, so that a copy of outputs with other
    logits has its own.

    Args:
      logits: `[*b v]`, and `mask`, `[*b]`: of `rows`, which are zero outside it.
      rows: the masked logits; None where nothing is masked.
    """

    def __init__(
        self,
        rows: Float[Array, "*b v"] | None = None,
        logits: Float[Array, "*b v"] | None = None,
        mask: Bool[Array, "*b"] | None = None,
    ):
        self._rows = rows
        self._of = logits, mask
        self._known: dict[float, _Known] = {}

    def of(self, rows: Float[Array, "*b v"], temperature: float) -> Float[Array, "*b"]:
        """Return `log Σ_v exp(s_v / T)`, `[*b]`."""
        known = self._known.get(temperature)
        if known is None or known[0] is not rows:
            known = rows, self._computed(rows, temperature)
            self._known[temperature] = known
        return known[1]

    def _computed(
        self, rows: Float[Array, "*b v"], temperature: float
    ) -> Float[Array, "*b"]:
        if rows is self._rows:
            return _masked_log_normalizer(*self._of, temperature)
        return jax.nn.logsumexp(rows / temperature, axis=-1)


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
