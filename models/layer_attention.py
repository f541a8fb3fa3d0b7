"""Differences between the attention of layers: how far they look, and rotations."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from models import checks
from models.rope import Scaling


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerAttention:
    """One layer of a pattern (`Transformer.attention_pattern`).

    Attributes:
      window: a token attends to itself and the `window - 1` before it; None is all
        before it.
      rotary: queries and keys are rotated; without, a layer knows no positions (NoPE,
        Kazemnejad et al. 2023, arXiv:2305.19466).
      rope_base: base of the rotary frequencies.
      rope_scaling: of `models.rope_scaling`; None is none.
    """

    window: int | None = None
    rotary: bool = True
    rope_base: float = 10_000.0
    rope_scaling: Scaling | None = None

    def __post_init__(self):
        checks.positive(window=self.window, rope_base=self.rope_base)


def of_layers(
    pattern: Sequence[LayerAttention], uniform: LayerAttention, num_layers: int
) -> tuple[LayerAttention, ...]:
    """Return the kind of each layer: `uniform`, where there is no pattern.

    Raises:
      ValueError: there are both.
    """
    if pattern and uniform != LayerAttention():
        raise ValueError(
            "attention_pattern says the windows and rotations of layers: leave "
            "attention_window, rope_base and rope_scaling out"
        )
    return repeated(pattern or [uniform], num_layers)


def repeated(
    pattern: Sequence[LayerAttention], num_layers: int
) -> tuple[LayerAttention, ...]:
    """Return the kind of each layer: those of `pattern`, again and again."""
    return tuple(pattern[i % len(pattern)] for i in range(num_layers))


def run_one(kind: Any, branches: Sequence[Callable[..., Any]], *args: Any) -> Any:
    """Run the branch of a layer's kind.

    Args:
      kind: its number; of stacked layers an array, which is known as they run; None
        where there is one kind.
      branches: by number.
      *args: of the branch.
    """
    if isinstance(kind, jax.Array):
        return jax.lax.switch(kind, branches, *args)
    return branches[0 if kind is None else kind](*args)
