"""Blocks of keys that the queries of packed rows may see."""

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Packing:
    """Keys that the queries of packed rows may see: those before them.

    Attributes:
      segment_ids: `[b t]`, the document of each token.
      first: `[b blocks]`, the first block of keys that any query of a block may see.
      window: as `Transformer.attention_window`.
      block: queries, and keys, of a block.
      by_row: rows are taken one after another.
    """

    segment_ids: jax.Array
    first: jax.Array
    window: int | None
    block: int
    by_row: bool

    @classmethod
    def of(
        cls,
        segment_ids: jax.Array,
        window: int | None,
        *,
        block: int,
        by_row: bool = False,
    ) -> Self:
        """Return the packing of rows `[b t]`, any number of tokens long."""
        ids = block_ids(segment_ids, block)
        ids = jnp.where(ids == 0, jnp.iinfo(ids.dtype).max, ids)  # padding is last
        low, high = jnp.min(ids, axis=-1), jnp.max(ids, axis=-1)

        # Blocks whose ids do not overlap share no document, whatever the order of ids.
        overlap = (low[:, None] <= high[None]) & (low[None] <= high[:, None])
        first = jnp.moveaxis(jnp.argmax(overlap, axis=1), 1, 0)
        if window is not None:
            starts = jnp.arange(first.shape[1])[None] * block
            first = jnp.maximum(first, jnp.maximum(starts - window + 1, 0) // block)
        return cls(segment_ids, first, window, block, by_row)

    def one_row(self) -> Self:
        """Return the packing of rows `in_one`: blocks read those of their own row."""
        rows, blocks = self.first.shape
        ids = jnp.moveaxis(block_ids(self.segment_ids, self.block), 0, 1)
        first = self.first + blocks * jnp.arange(rows)[:, None]
        return dataclasses.replace(
            self, segment_ids=ids.reshape(1, -1), first=first.reshape(1, -1)
        )

    def in_one(self, x: jax.Array) -> jax.Array:
        """Return rows `[b t ...]` one after another, filled up: `[1 b * t ...]`."""
        padding = [(0, 0)] * x.ndim
        padding[1] = (0, -x.shape[1] % self.block)
        return jnp.pad(x, padding).reshape(1, -1, *x.shape[2:])


jax.tree_util.register_dataclass(
    Packing,
    data_fields=["segment_ids", "first"],
    meta_fields=["window", "block", "by_row"],
)


def block_ids(segment_ids: jax.Array, block: int) -> jax.Array:
    """Return `[blocks b block]` of rows `[b t]`, the last block filled up."""
    padding = -segment_ids.shape[1] % block
    # The last document goes on: padding queries read its keys, and no query reads them.
    padded = jnp.pad(segment_ids, ((0, 0), (0, padding)), mode="edge")
    return jnp.moveaxis(padded.reshape(padded.shape[0], -1, block), 1, 0)
