"""Partition of the vocabulary into tiles."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class VocabPartition:
    """Tiles of a vocabulary, each spread over all devices that share it.

    A tile takes equally many entries of every shard, so that it moves nothing between
    devices; the last tile takes the rest.

    Attributes:
      size: entries of the vocabulary.
      shards: devices that it lies on, piece by piece.
      width: entries that a tile takes of every shard.
    """

    size: int
    shards: int
    width: int

    @classmethod
    def of(cls, size: int, *, shards: int, entries: int) -> "VocabPartition":
        """Return tiles of about `entries`; equal ones, where a near width divides."""
        shards = shards if size % shards == 0 else 1
        piece = size // shards
        widest = min(piece, max(1, entries // shards))
        for width in range(widest, widest // 2, -1):
            if piece % width == 0:
                return cls(size, shards, width)
        return cls(size, shards, widest)

    @property
    def piece(self) -> int:
        """Entries of one shard."""
        return self.size // self.shards

    @functools.cached_property
    def tiles(self) -> tuple[int, int]:
        """Tiles of full width; and a shard's entries in the narrower one after them."""
        return divmod(self.piece, self.width)

    def ids(self, start: Any, width: int) -> jax.Array:
        """Return the ids of the tile at `start` of every shard, `[shards width]`."""
        first = jnp.arange(self.shards, dtype=jnp.int32)[:, None] * self.piece
        return first + start + jnp.arange(width, dtype=jnp.int32)[None]

    def slice(self, x: jax.Array, axis: int, start: Any, width: int) -> jax.Array:
        """Return those entries of `x` along its vocabulary axis."""
        pieces = self._pieces(x, axis)
        tile = jax.lax.dynamic_slice_in_dim(pieces, start, width, axis + 1)
        return tile.reshape((*x.shape[:axis], -1, *x.shape[axis + 1 :]))

    def add(self, x: jax.Array, tile: jax.Array, axis: int, start: Any) -> jax.Array:
        """Return `x` with `tile` added to those entries, in place where XLA can."""
        pieces = self._pieces(x, axis)
        width = tile.shape[axis] // self.shards
        of_tile = tile.reshape(
            (*x.shape[:axis], self.shards, width, *x.shape[axis + 1 :])
        )
        old = jax.lax.dynamic_slice_in_dim(pieces, start, width, axis + 1)
        new = jax.lax.dynamic_update_slice_in_dim(
            pieces, old + of_tile.astype(x.dtype), start, axis + 1
        )
        return new.reshape(x.shape)

    def _pieces(self, x: jax.Array, axis: int) -> jax.Array:
        split = (self.shards, x.shape[axis] // self.shards)
        return x.reshape((*x.shape[:axis], *split, *x.shape[axis + 1 :]))
