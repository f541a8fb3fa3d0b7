"""How the head is cut, from the memory that it may take."""

import dataclasses
from typing import Literal

from runner import runtime

FLOAT = 4  # bytes
TILES_IN_PLANE = 64


@dataclasses.dataclass(frozen=True)
class HeadCost:
    """What the plan asks of the terms and the heads.

    sides:    heads whose whole logits are read: the student's, the teacher's.
    tileable: every term has a tile form, and every head can be cut.
    linear:   no head's gradient needs its logits.
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


@dataclasses.dataclass(frozen=True)
class HeadPlan:
    """What exists at a time of the `[tokens, V]` of one device.

    mode:    `whole`: all. `fast`: blocks of tokens. In both nothing is computed twice.
             `lean`: tiles of the vocabulary, of all tokens; logits are computed twice.
    by_sums: terms are computed from sums over the vocabulary
             (`losses.core.vocab_sums`), else from rows.
    tokens:  in a block.
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
    config: runtime.Head, terms: HeadCost, *, tokens: int, entries: int
) -> HeadPlan:
    """The fastest plan within `config.memory_budget`, or else the smallest one.

    tokens:  of a microbatch, on one device.
    entries: of the vocabulary, on one device.
    """
    fitting = block(config, entries=entries, planes=terms.planes)
    size = min(tokens, max(fitting, terms.together))
    if terms.tileable and size < min(tokens, config.smallest_block):
        column = 2 * terms.sides * FLOAT * tokens
        tile = max(config.memory_budget // column, config.smallest_tile)
        return HeadPlan("lean", True, tokens, min(entries, tile))
    return HeadPlan(
        mode="whole" if size >= tokens else "fast",
        by_sums=terms.tileable and terms.linear,
        tokens=size,
        entries=min(entries, max(entries // TILES_IN_PLANE, config.smallest_tile)),
    )


def block(config: runtime.Head, *, entries: int, planes: int = 2) -> int:
    """Tokens in a block of whole rows, at least one."""
    return max(1, config.memory_budget // (planes * FLOAT * max(1, entries)))
