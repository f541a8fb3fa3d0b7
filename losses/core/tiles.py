"""Tiles of the vocabulary, and distributions over it that are read a tile at a time."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Tile(NamedTuple):
    """Logits of `n` entries of the vocabulary, for every token.

    Attributes:
      ids: int32, equal runs of ids at equal distances; a run has `n / shards`.
      student: float32.
      teacher: float32; None where there is no teacher or its outputs are stored.
    """

    ids: Int[Array, "shards run"]
    student: Float[Array, "*b n"]
    teacher: Float[Array, "*b n"] | None = None

    @property
    def entries(self) -> Int[Array, " n"]:
        """Ids in the order of the logits."""
        return self.ids.reshape(-1)

    def place(
        self, ids: Int[Array, "*i"]
    ) -> tuple[Int[Array, "*i"], Bool[Array, "*i"]]:
        """Return the indices of `ids` among the entries, and whether they are there."""
        shards, width = self.ids.shape
        first = self.ids[0, 0]
        shard = 0
        if shards > 1:
            shard = ids // (self.ids[1, 0] - first)
            first = self.ids[jnp.clip(shard, 0, shards - 1), 0]
        offset = ids - first
        inside = (offset >= 0) & (offset < width)
        return jnp.where(inside, shard * width + offset, 0), inside


Entrywise = Callable[[Tile], Float[Array, "*b n"]]
"""One number per token and entry of a tile."""

Tilewise = Callable[[Tile], Float[Array, "..."]]
"""Part of a total that a tile adds, `[*b ...]`."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """`softmax(x / T)` over the ids below `width`.

    Attributes:
      side: whose logits x are.
      temperature: T.
      width: ids at or above it have probability 0.
      excluded: number of the ids, among those of the requests, that it leaves out too.
    """

    side: Literal["student", "teacher"]
    temperature: float
    width: int
    excluded: int | None = None

    def scores(self, tile: Tile) -> Float[Array, "*b n"]:
        """Return `x / T`, -inf at ids that are not below `width`."""
        logits = tile.student if self.side == "student" else tile.teacher
        assert logits is not None
        inside = tile.entries < self.width
        for _ in range(logits.ndim - 1):
            inside = inside[None]
        return jnp.where(inside, logits / self.temperature, -jnp.inf)
