"""The head plan: how much of the logits exists at a time, from the memory allowed."""

import dataclasses
from typing import Literal

import jax

from runner import runtime

FLOAT = 4  # bytes
TILES_IN_PLANE = 64
CACHE = 2 * 2**20
"""Bytes that a tile may fill beyond that: about the cache of a CPU's core."""
WIDEST = 4
"""Smallest tiles in such a tile: wider ones are no faster."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadCost:
    """Demands of the loss terms and the heads on the plan.

    Attributes:
      sides: heads whose whole logits are read: the student's, the teacher's.
      tileable: every term has a tiled form, and every head can be cut.
      linear: no head's gradient needs its logits.
      together: tokens that must be in one block.
    """

    sides: int = 1
    tileable: bool = False
    linear: bool = False
    together: int = 1

    @property
    def planes(self) -> int:
        """Float32 arrays `[block, V]` alive at once, where rows are whole.

        By tiles, the logits of each side, and little else. By autodiff of whatever the
        losses do, the gradients and a probability of each side too.
        """
        return self.sides if self.tileable and self.linear else 3 * self.sides


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadPlan:
    """Part of the `[tokens, V]` logits of one device that exists at a time.

    Attributes:
      mode: `whole`: all. `fast`: blocks of tokens. In both nothing is computed twice.
        `lean`: tiles of the vocabulary, of all tokens; logits are computed twice.
      by_sums: terms are computed from sums over the vocabulary
        (`losses.core.vocab_sums`), else from whole rows.
      tokens: in a block.
      entries: of the vocabulary in a tile.
    """

    mode: Literal["whole", "fast", "lean"]
    by_sums: bool
    tokens: int
    entries: int

    def __str__(self) -> str:
        if self.mode == "lean":
            return f"lean, {self.entries:,} of the vocabulary at a time, made twice"
        if self.mode == "whole":
            return "whole"
        return f"fast, blocks of {self.tokens:,} tokens"


def choose(
    config: runtime.Head, cost: HeadCost, *, tokens: int, entries: int
) -> HeadPlan:
    """Return the fastest plan within `config.memory_budget`, or else the smallest one.

    Args:
      config: the memory that the head may take.
      cost: demands of the terms.
      tokens: of a microbatch, on one device.
      entries: of the vocabulary, on one device.
    """
    row = cost.planes * FLOAT * max(1, entries)
    block = max(config.block_memory // row, config.smallest_block)
    most = block_size(config, entries=entries, planes=cost.planes)
    size = min(tokens, max(min(most, block), cost.together))

    # Matmuls of fewer tokens are slow: then all tokens, a tile of the vocabulary each
    # time, logits and their gradient of every side at once.
    if cost.tileable and size < min(tokens, config.smallest_block):
        column = 2 * cost.sides * FLOAT * tokens
        tile = max(config.memory_budget // column, config.smallest_tile)
        return HeadPlan(
            mode="lean", by_sums=True, tokens=tokens, entries=min(entries, tile)
        )

    # By autodiff of rows where the head's gradient needs logits (a soft cap).
    # Few tiles, since each gathers and scatters anew what losses read of it; but ones
    # that stay in a core's cache.
    in_cache = min(CACHE // (FLOAT * size), WIDEST * config.smallest_tile)
    tile = max(entries // TILES_IN_PLANE, in_cache, config.smallest_tile)
    return HeadPlan(
        mode="whole" if size >= tokens else "fast",
        by_sums=cost.tileable and cost.linear,
        tokens=size,
        entries=min(entries, tile),
    )


def block_size(config: runtime.Head, *, entries: int, planes: int = 2) -> int:
    """Return the tokens in a block of whole rows, at least one."""
    return max(1, config.memory_budget // (planes * FLOAT * max(1, entries)))
