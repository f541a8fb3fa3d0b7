"""Causal attention within documents by cuDNN's fused kernel, for NVIDIA's GPUs.

What differs by document is a bias `[b 1 t t]` in the type of the queries: memory is
quadratic in the length of a row, but for all heads at once. Keys beyond the window are
not computed, other documents are.

Source: `jax.nn.dot_product_attention(implementation="cudnn")` of jax 0.10.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

DTYPES = {"bfloat16": -(2.0**41), "float16": -(2.0**15)}
"""Types of queries, and the bias of a pair of other documents: JAX's own."""
LONGEST = 8192
"""Tokens of a row whose biases take 128 MiB."""
WINDOW_BESIDE_BIAS = 91002
"""The cuDNN since which its front end lets a window pass beside a bias: 9.10.2.

Source: checks of NVIDIA/cudnn-frontend v1.23.0, `include/cudnn_frontend/node`: forward
`sdpa_support_surface.h` line 245, backward `scaled_dot_product_flash_attention.h` line
1247. They are there since v1.13.0; v1.12.0 refuses the two together with every cuDNN.
"""
REFUSED = (91000, 91001)
"""Versions of cuDNN with which its front end refuses 16-bit attention: 9.10.0, 9.10.1.

Source: as above, lines 201 and 1112.
"""
PRODUCTS = {
    "dot_product_attention_fwd_wrapper": 2,
    "dot_product_attention_bwd_wrapper": 5,
}
"""Matmuls of the kernel's primitives in a jaxpr; backward, scores are made again."""


def serves(*, length: int, head_dim: int, dtype: str) -> bool:
    """Return true for what cuDNN takes on every GPU since Ampere, within `LONGEST`.

    Where no cuDNN is found, as where another machine is planned for, one that serves
    is supposed.
    """
    return (
        dtype in DTYPES
        and _version() not in REFUSED
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
    mask = jnp.expand_dims(ids, 3) == jnp.expand_dims(ids, 2)
    if implementation == "cudnn" and (library := _library()) is not None:
        return _fused(library, query, key, value, mask, window)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=_within(mask, window),
        scale=1.0,
        is_causal=True,
        implementation=implementation,
    )


def _library() -> Any:
    """Return JAX's module that `_fused` calls, or None where its function is gone.

    `jax.nn.dot_product_attention` serves then, and computes the bias's gradient too.
    """
    try:
        from jax._src.cudnn import fused_attention_stablehlo as library
    except ImportError:
        return None
    return library if hasattr(library, "_dot_product_attention") else None


def _version() -> int | None:
    """Return the version of cuDNN, 91002 for 9.10.2, or None where there is none."""
    if (library := _library()) is None:
        return None
    try:
        version: int = library.check_cudnn_version()
    except RuntimeError:
        return None
    return version


def _within(mask: jax.Array, window: int | None) -> jax.Array:
    """Return `[b 1 t t]`, false before the window too."""
    if window is None:
        return mask
    return mask & jnp.triu(jnp.ones(mask.shape[-2:], bool), 1 - window)[None, None]


def _fused(
    library: Any,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    window: int | None,
) -> jax.Array:
    """Return what `jax.nn.dot_product_attention` does, without the bias's gradient.

    Nobody reads that gradient, but where it is asked for cuDNN writes those of all
    scores, `[b heads t t]`: 4 GiB a row of 8,192 tokens and 32 heads, in each layer.
    JAX asks for it whenever there is a bias, so it is called one function below.
    """
    version = library.check_cudnn_version()
    if window is not None and version < WINDOW_BESIDE_BIAS:
        mask, window = _within(mask, window), None
    zero, least = (jnp.asarray(x, query.dtype) for x in (0, DTYPES[query.dtype.name]))
    bias, none = jnp.where(mask, zero, least), jnp.zeros(0, query.dtype)
    # Lengths, offsets and pages are not used.
    return library._dot_product_attention(
        *(query, key, value, bias, none, none, none, none, none, none),
        scale=1.0,
        seed=42,
        dropout_rate=0.0,
        variadic_args=(True, False),  # a bias, and no gradient of it
        mask_type=library.MaskType.CAUSAL,
        layout=library.AttentionLayout.BTNH.value,
        sliding_window_length=window,
        cudnn_version=version,
        return_residual=False,
    )


def flops(name: str, shape: tuple[int, ...], *, window: int | None) -> int:
    """Return the FLOPs of a primitive of `PRODUCTS`.

    Args:
      name: of the primitive.
      shape: `[b t heads head_dim]`, of its queries.
      window: the tokens that a query may see; None is all before it.
    """
    batch, length, heads, head_dim = shape
    near = min(window or length, length)
    pairs = near * (near + 1) // 2 + (length - near) * near
    return PRODUCTS[name] * 2 * batch * heads * head_dim * pairs
