"""Causal attention within documents by splash attention, JAX's own kernel for TPUs.

Memory is linear in the length of a row; pairs of blocks that no query may see by place
(later ones, those before the window) are not computed, other documents are.

Source: `jax.experimental.pallas.ops.tpu.splash_attention` of jax 0.10.
"""

from typing import Any

import jax
import jax.numpy as jnp

LANES = 128
"""Blocks are multiples of it, and so is the length of a padded row."""
BLOCKS = (512, 256, LANES)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segment_ids: jax.Array,
    *,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: jax.Array | None = None,
    interpret: bool = False,
) -> jax.Array:
    """Return weighted values `[b t heads head_dim]`.

    Args:
      query: `[b t heads head_dim]`, scaled.
      key: `[b t kv_heads head_dim]`; a key serves `heads / kv_heads` queries.
      value: as `key`.
      segment_ids: `[b t]`, the document of each token.
      window: as `Transformer.attention_window`.
      soft_cap: `cap * tanh(s / cap)` of scores `s`.
      sinks: `[heads]`, float32, a score more of each softmax, whose value is 0.
      interpret: run the kernel's program as XLA operations, on any device.
    """
    # Imported where it is used: Pallas takes as long to import as half of JAX.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    _, length, heads, _ = query.shape
    padding = -length % LANES
    size = length + padding
    block = next(block for block in BLOCKS if size % block == 0)
    places = (
        splash.CausalMask((size, size))
        if window is None
        else splash.LocalMask((size, size), window_size=(window - 1, 0), offset=0)
    )
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([places] * heads),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=soft_cap,
        interpret=interpret,
    )

    def row(query, key, value, ids):
        return kernel(query, key, value, splash.SegmentIds(ids, ids), sinks)

    def by_head(x: jax.Array) -> jax.Array:
        """Return `[b heads size head_dim]`, zeros behind the row."""
        return jnp.moveaxis(jnp.pad(x, ((0, 0), (0, padding), (0, 0), (0, 0))), 2, 1)

    # The last document goes on: no query of the row is as late as the padding's keys.
    ids = jnp.pad(segment_ids, ((0, 0), (0, padding)), mode="edge")
    mixed: Any = jax.vmap(row)(by_head(query), by_head(key), by_head(value), ids)
    return jnp.moveaxis(mixed, 1, 2)[:, :length]
