"""A transformer whose norms become linear at steps of their own."""

import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

from models import checks
from models.base import Batch, TrunkOutput
from models.layers import SeparateLayers
from models.norm_removal import places
from models.norm_removal.fading import Apart, FadingNorm
from models.transformer import Transformer


def NormRemoval(
    *,
    model: Callable[..., Any],
    first: int,
    gap: int,
    rate: float = 0.1,
    first_apart: int = 0,
    end_apart: int = 0,
    end: int | None = None,
    rngs: nnx.Rngs,
) -> Any:
    """Return `model` with norms that divide by a constant from steps of their own on.

    `(x - mean) / c · scale + bias`: c is the moving mean of the standard deviation of
    tokens until then. One norm turns each `gap` steps from step `first`: those before
    `mlp`, layer by layer, then those before attention, then the last one. At
    `first + 2 gap · num_layers` all have, and each is an affine map. Parameters keep
    their paths and initial values: a run without it can be the start.

    The states of first positions are much larger than others, and those of tokens that
    end a text. With `first_apart`, c is a mean over all but the first ones, which have
    a constant of their own until so many steps after the last norm has turned; with
    `end_apart` the ends have it too, in the norms before attention. Then c is theirs.
    Predictions that are made token by token (samples) take c for all of them.
    `losses.NormSpread` brings them closer before that.

    The paper turns what queries and keys read before what values read; here one norm
    serves all three, so that ends are apart for queries and keys too.

    Args:
      model: called with `rngs=`: a `Transformer` of separate layers with norms before
        its sublayers alone.
      first: finished steps at which the first norm turns.
      gap: steps between one and the next; 0 turns all at once.
      rate: of the moving mean.
      first_apart: steps after the last norm until which first positions of texts have a
        constant of their own; 0 for none.
      end_apart: the same of ends of texts; at most `first_apart`.
      end: id of the token that ends a text; needed with `end_apart`.
      rngs: of the initial values.

    Raises:
      ValueError: a number is out of its range, or `model` is no such model.

    Source: Baroni et al. 2025 (arXiv:2507.02559): GPT-2 small, from step 20 every 2 or
    3, rate 0.1, 12 and 2 steps apart; from its code, where ends have the constant of
    the first positions.
    """
    checks.positive(rate=rate)
    checks.not_negative(
        first=first, gap=gap, first_apart=first_apart, end_apart=end_apart
    )
    if end_apart > first_apart or (end_apart and end is None):
        raise ValueError(
            "end_apart must be at most first_apart, and needs the id end, got "
            f"{end_apart}, {first_apart} and {end}"
        )
    fading: Any = model(rngs=rngs)
    if not _fits(fading):
        raise ValueError(
            "model must be a models.Transformer of layers='separate' and "
            "norm_placement='pre'"
        )
    count = len(fading.blocks)
    last = first + gap * 2 * count

    def fade(norm: Any, place: int, *, ends: bool = False) -> FadingNorm:
        until = Apart(first=last + first_apart, end=last + end_apart if ends else 0)
        return FadingNorm(
            norm,
            step=first + gap * place,
            rate=rate,
            apart=until if first_apart else None,
        )

    for i, block in enumerate(fading.blocks):
        block.mlp_norm = fade(block.mlp_norm, i)
        block.attention_norm = fade(
            block.attention_norm, count + i, ends=bool(end_apart)
        )
    fading.norm = fade(fading.norm, 2 * count)
    if first_apart:
        fading.end = end
        object.__setattr__(fading, "__class__", _placed(type(fading)))
    return fading


@functools.cache
def _placed(base: type[Transformer]) -> type[Transformer]:
    """Return the class of `base` whose norms know the places of its batch."""

    class Placed(base):
        end: int | None

        def trunk(
            self,
            batch: Batch,
            *,
            capture: frozenset[str] = frozenset(),
            remat: str = "none",
        ) -> TrunkOutput:
            with places.of(batch, self.end):
                return super().trunk(batch, capture=capture, remat=remat)

    Placed.__name__, Placed.__qualname__ = base.__name__, base.__qualname__
    return Placed


def _fits(model: Any) -> bool:
    """Return true for separate layers with norms before sublayers alone."""
    blocks = model.blocks if isinstance(model, Transformer) else None
    return isinstance(blocks, SeparateLayers) and all(
        block.attention_norm is not None and block.attention_post_norm is None
        for block in blocks
    )
