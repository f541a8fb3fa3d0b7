"""Causal attention within documents by cuDNN's fused kernel, for NVIDIA's GPUs.

What differs by document is a bias `[b 1 t t]` in the type of the queries, and so is its
gradient, which nobody reads: memory is quadratic in the length of a row, but for all
heads at once. Keys beyond the window are not computed, other documents are.

Source: `jax.nn.dot_product_attention(implementation="cudnn")` of jax 0.10.
"""

from typing import Literal

import jax
import jax.numpy as jnp

DTYPES = ("bfloat16", "float16")
LONGEST = 8192
"""Tokens of a row whose biases take 128 MiB, and as much for their gradient."""


def serves(*, length: int, head_dim: int, dtype: str) -> bool:
    """Return true for what cuDNN takes on every GPU since Ampere, within `LONGEST`."""
    return (
        dtype in DTYPES
        and head_dim % 8 == 0
        and head_dim <= 128
        and length % 2 == 0
        and length <= LONGEST
    )


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segment_ids: jax.Array,
    *,
    window: int | None = None,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Return weighted values `[b t heads head_dim]`.

    Args:
      query: `[b t heads head_dim]`, scaled.
      key: `[b t kv_heads head_dim]`; a key serves `heads / kv_heads` queries.
      value: as `key`.
      segment_ids: `[b t]`, the document of each token.
      window: as `Transformer.attention_window`.
      implementation: of `jax.nn.dot_product_attention`; `"xla"` runs on any device.
    """
    ids = segment_ids[:, None]
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=jnp.expand_dims(ids, 3) == jnp.expand_dims(ids, 2),
        scale=1.0,
        is_causal=True,
        local_window_size=None if window is None else (window - 1, 0),
        implementation=implementation,
    )
