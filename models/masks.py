"""Visibility of keys to the queries of packed rows: documents, order, windows."""

import jax
import jax.numpy as jnp

from models import sharding
from models.kernels import blocked_attention
from models.kernels.blocked_attention import Packing

Mask = jax.Array | Packing
"""`[b t t]`, query by key, true where the query may look; or what `causal` packs."""


def block_size(length: int) -> int:
    """Return the queries of a block, of rows of this length; 0 where rows are whole.

    On a CPU, 2 cores, float32, 4 heads of 48, forward and backward, blocks over whole
    rows by processor time: 1.0 at 256 tokens, 0.7 at 512, 0.2 at 2,048. Elsewhere a
    loop of small products leaves the device idle: for rows whose scores do not fit.
    """
    if length <= 128:
        return 0
    if sharding.platform() == "cpu":
        return 128
    return 512 if length > 4096 else 0


def causal(segment_ids: jax.Array, window: int | None = None) -> Mask:
    """Return what the queries of rows `[b t]` see, in the form that is best for them.

    Args:
      segment_ids: `[b t]`, the document of each token.
      window: as in `packed_mask`.
    """
    block = block_size(segment_ids.shape[1])
    if not block:
        return packed_mask(segment_ids, window)
    return blocked_attention.packing(segment_ids, window, block=block)


def packed_mask(segment_ids: jax.Array, window: int | None = None) -> jax.Array:
    """Causal mask within documents, `[b t t]`: query t may look at key s <= t.

    Args:
      segment_ids: `[b t]`, the document of each token.
      window: also demand `t - s < window` (Mistral); None is no limit.
    """
    length = segment_ids.shape[-1]
    same_document = jnp.expand_dims(segment_ids, -1) == jnp.expand_dims(segment_ids, -2)
    causal = jnp.tril(jnp.ones((length, length), bool))
    if window is not None:
        causal = jnp.triu(causal, 1 - window)
    return same_document & jnp.broadcast_to(causal, same_document.shape)
