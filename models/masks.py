"""Visibility of keys to queries of packed rows, and the kernel that attends by it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from models import sharding
from models.kernels import blocked_attention, cudnn_attention, splash_attention
from models.kernels.forward_mode import forward_mode
from models.kernels.packing import Packing

SHORT = 128
"""Tokens of rows whose scores are computed whole on every device."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heads:
    """Properties of a layer's heads that not every kernel serves.

    Attributes:
      width: features of a head.
      dtype: of queries, keys and values.
      soft_cap: of scores; None is none.
      sinks: each softmax has one more entry.
      value_width: features of a head's values; None is `width`.
    """

    width: int
    dtype: str
    soft_cap: float | None = None
    sinks: bool = False
    value_width: int | None = None


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Program that computes attention over packed rows.

    Attributes:
      name: `"whole"`, `"blocks"`, `"cudnn"` or `"splash"`.
      block: queries, and keys, of one of `"blocks"`.
      by_row: those of `"blocks"` take rows one after another.
    """

    name: str
    block: int = 0
    by_row: bool = False

    def __str__(self) -> str:
        return {
            "whole": "attention of whole rows",
            "blocks": f"attention in blocks of {self.block}",
            "cudnn": "attention by cuDNN",
            "splash": "attention by splash attention",
        }[self.name]


@dataclasses.dataclass(frozen=True)
class Fused:
    """Packed rows for a library's kernel: keys before the query, of its document.

    Attributes:
      segment_ids: `[b t]`, the document of each token.
      window: as `Transformer.attention_window`.
      kernel: the name of a `Kernel`, `"cudnn"` or `"splash"`.
    """

    segment_ids: jax.Array
    window: int | None
    kernel: str


jax.tree_util.register_dataclass(
    Fused, data_fields=["segment_ids"], meta_fields=["window", "kernel"]
)

Mask = jax.Array | Packing | Fused
"""`[b t t]`, query by key, true where the query may look; or what `causal` packs."""


def kernel(length: int, heads: Heads, platform: str | None = None) -> Kernel:
    """Return the kernel for rows of this length.

    Args:
      length: tokens.
      heads: that attend.
      platform: of the devices; None is that of the mesh in force.

    On a CPU, 2 cores, float32, 4 heads of 48, forward and backward, blocks over whole
    rows by processor time: 0.9 at 128 tokens, which a whole step does not show, 0.65 at
    256, 0.5 at 512 and 0.3 at 2,048; blocks of 64 over those of 128, 0.93 at 4,096, and
    0.75 with a window of 512. Elsewhere a loop of small products leaves the device
    idle: for rows whose scores do not fit.
    Kernels of others have no derivative in forward mode, and give way there.
    """
    if length <= SHORT:
        return Kernel("whole")
    platform = sharding.platform() if platform is None else platform
    if platform == "cpu":
        # Each row reads the keys of its own documents; a mesh parts rows by compiler.
        return Kernel("blocks", 64, by_row=not _parted_by_compiler())
    even = heads.value_width is None
    if platform == "tpu" and even and not forward_mode.value:
        return Kernel("splash")
    plain = even and heads.soft_cap is None and not heads.sinks
    if (
        platform == "cuda"
        and not forward_mode.value
        and plain
        and cudnn_attention.serves(
            length=length, head_dim=heads.width, dtype=heads.dtype
        )
    ):
        return Kernel("cudnn")
    return Kernel("blocks", 512) if length > 4096 else Kernel("whole")


def causal(segment_ids: jax.Array, window: int | None, heads: Heads) -> Mask:
    """Return what the queries of rows `[b t]` see, in the form that is best for them.

    Args:
      segment_ids: `[b t]`, the document of each token.
      window: as in `packed_mask`.
      heads: of the layers that attend by it.
    """
    best = kernel(segment_ids.shape[1], heads)
    if best.name == "whole":
        return packed_mask(segment_ids, window)
    if best.name == "blocks":
        return Packing.of(segment_ids, window, block=best.block, by_row=best.by_row)
    return Fused(segment_ids, window, best.name)


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


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: Packing | Fused,
    *,
    soft_cap: float | None = None,
    sinks: jax.Array | None = None,
) -> jax.Array:
    """Return weighted values `[b t heads head_dim]` by the kernel of `mask`.

    Args:
      query: `[b t heads head_dim]`, scaled.
      key: `[b t kv_heads head_dim]`.
      value: as `key`.
      mask: of the same rows.
      soft_cap: of scores.
      sinks: `[heads]`, float32, or None.
    """
    if isinstance(mask, Packing):
        return blocked_attention.attend(
            query, key, value, mask, soft_cap=soft_cap, sinks=sinks
        )
    if mask.kernel == "cudnn":
        run = functools.partial(cudnn_attention.attend, window=mask.window)
        return _over_mesh(run, query, key, value, mask.segment_ids)

    def splash(query, key, value, ids, *sinks):
        return splash_attention.attend(
            query,
            key,
            value,
            ids,
            window=mask.window,
            soft_cap=soft_cap,
            sinks=sinks[0] if sinks else None,
            interpret=sharding.platform() != "tpu",
        )

    more = () if sinks is None else (sinks,)
    return _over_mesh(splash, query, key, value, mask.segment_ids, *more)


def _over_mesh(
    run: Any,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segment_ids: jax.Array,
    *sinks: jax.Array,
) -> jax.Array:
    """Run a kernel, which the compiler cannot part, on each device's rows and heads."""
    context = sharding.current()
    arrays = (query, key, value, segment_ids, *sinks)
    if context is None or not _parted_by_compiler():
        return run(*arrays)
    # Queries stay with their keys: heads are parted as far as those of keys can be.
    rows = sharding.mesh_axes("batch", key.shape[0], context) or None
    heads = sharding.mesh_axes("kv_heads", key.shape[2], context) or None
    by_head = PartitionSpec(rows, None, heads)
    return jax.shard_map(
        run,
        mesh=context.mesh,
        in_specs=(by_head,) * 3
        + (PartitionSpec(rows),)
        + (PartitionSpec(heads),) * len(sinks),
        out_specs=by_head,
        check_vma=False,
    )(*arrays)


def _parted_by_compiler() -> bool:
    """Return true for arrays over some devices that no `shard_map` has parted."""
    context = sharding.current()
    manual = jax.sharding.get_abstract_mesh().manual_axes
    return context is not None and context.mesh.size > 1 and not manual
