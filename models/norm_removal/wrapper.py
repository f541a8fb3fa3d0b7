"""A transformer whose norms become linear at steps of their own."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from models import checks
from models.layers import SeparateLayers
from models.norm_removal.fading import FadingNorm
from models.transformer import Transformer


def NormRemoval(
    *,
    model: Callable[..., Any],
    first: int,
    gap: int,
    rate: float = 0.1,
    rngs: nnx.Rngs,
) -> Any:
    """Return `model` with norms that divide by a constant from steps of their own on.

    `(x - mean) / c · scale + bias`: c is the moving mean of the standard deviation of
    tokens until then. One norm turns each `gap` steps from step `first`: those before
    `mlp`, layer by layer, then those before attention, then the last one. At
    `first + 2 gap · num_layers` all have, and each is an affine map. Parameters keep
    their paths and initial values: a run without it can be the start.

    The paper turns what queries and keys read before what values read; here one norm
    serves all three. Its constants of their own for first positions and ends of texts,
    and its loss on the spread of norms, are not here.

    Args:
      model: called with `rngs=`: a `Transformer` of separate layers with norms before
        its sublayers alone.
      first: finished steps at which the first norm turns.
      gap: steps between one and the next; 0 turns all at once.
      rate: of the moving mean.
      rngs: of the initial values.

    Raises:
      ValueError: a number is out of its range, or `model` is no such model.

    Source: Baroni et al. 2025 (arXiv:2507.02559): GPT-2 small, from step 20 every 2 or
    3, rate 0.1.
    """
    checks.positive(rate=rate)
    checks.not_negative(first=first, gap=gap)
    fading: Any = model(rngs=rngs)
    if not _fits(fading):
        raise ValueError(
            "model must be a models.Transformer of layers='separate' and "
            "norm_placement='pre'"
        )
    count = len(fading.blocks)

    def fade(norm: Any, place: int) -> FadingNorm:
        return FadingNorm(norm, step=first + gap * place, rate=rate)

    for i, block in enumerate(fading.blocks):
        block.mlp_norm = fade(block.mlp_norm, i)
        block.attention_norm = fade(block.attention_norm, count + i)
    fading.norm = fade(fading.norm, 2 * count)
    return fading


def _fits(model: Any) -> bool:
    """Return true for separate layers with norms before sublayers alone."""
    blocks = model.blocks if isinstance(model, Transformer) else None
    return isinstance(blocks, SeparateLayers) and all(
        block.attention_norm is not None and block.attention_post_norm is None
        for block in blocks
    )
