"""Kinds of attention: of heads, and of layers that differ in reach and rotations."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from models import checks, rope
from models.attention import Attention, check_heads
from models.latent_attention import LatentAttention, Latents
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


def numbered(
    pattern: Sequence[LayerAttention], uniform: LayerAttention, num_layers: int
) -> tuple[tuple[LayerAttention, ...], tuple[int, ...]]:
    """Return the kinds that there are, and the number of each layer's.

    Raises:
      ValueError: as `of_layers`.
    """
    layers = of_layers(pattern, uniform, num_layers)
    kinds = tuple(dict.fromkeys(layers))
    return kinds, tuple(kinds.index(kind) for kind in layers)


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


_FIELDS = {
    "num_kv_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "bias": "attention_bias",
    "output_bias": "attention_output_bias",
    "sinks": "attention_sinks",
    "qk_norm": "qk_norm",
}
"""Fields of `Transformer` that plain heads alone have, by those of `Attention`."""


class Heads(NamedTuple):
    """Attention of a kind, and the widths of its heads.

    Attributes:
      make: makes one layer's, called with `rngs=`.
      cached: heads, and the widths of the two arrays that a cache holds of each token.
      head_dim: features of queries and keys.
      rope_dim: features that are rotated.
      value_dim: features of values; None is `head_dim`.
    """

    make: Callable[..., Attention]
    cached: tuple[int, int, int]
    head_dim: int
    rope_dim: int
    value_dim: int | None


def heads(
    latents: Latents | None,
    both: Mapping[str, Any],
    plain: Mapping[str, Any],
    *,
    rope_dim: int | None,
) -> Heads:
    """Return heads over `latents`, or plain ones.

    Args:
      latents: None is plain heads.
      both: fields of either kind of attention.
      plain: fields of `Attention` alone.
      rope_dim: of `Transformer`.

    Raises:
      ValueError: sizes do not fit, or a field has no meaning for latents.
    """
    count = both["num_heads"]
    if latents is None:
        kv_heads = count if plain["num_kv_heads"] is None else plain["num_kv_heads"]
        head_dim = check_heads(
            both["dim"],
            num_heads=count,
            num_kv_heads=kv_heads,
            head_dim=plain["head_dim"],
        )
        sizes = {"num_kv_heads": kv_heads, "head_dim": head_dim}
        make = functools.partial(Attention, **{**both, **plain, **sizes})
        cached = kv_heads, head_dim, head_dim
        return Heads(make, cached, head_dim, rope.check_width(rope_dim, head_dim), None)
    fields = {_FIELDS[name]: plain[name] for name in _FIELDS} | {"rope_dim": rope_dim}
    for name, value in fields.items():
        if value and (name, value) != ("num_kv_heads", count):
            raise ValueError(f"latents have no {name}: leave it out, got {value}")
    make = functools.partial(LatentAttention, latents=latents, **both)
    cached = 1, latents.kv_rank + latents.rope_dim, 0
    return Heads(make, cached, latents.head_dim, latents.rope_dim, latents.value_dim)
