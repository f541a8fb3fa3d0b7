"""Parts of layers in `.gguf` files that differ in windows and rotations.

llama.cpp knows which layers these are from the family; of Gemma a file may say it too.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from models.layer_attention import LayerAttention
from models.pretrained.entries import gguf_rope
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.part import Entries, Fields, Part
from models.pretrained.entries.window import ABSENT, layers_of, of_layers, widest
from models.rope_scaling import Linear


def windows(period: int, *, two_bases: bool = False) -> Part:
    """Return the part of windows in all but each last of `period` layers.

    Args:
      period: where the file names none.
      two_bases: layers with a window have rotations of their own, of base 10,000
        where the file names none, and unscaled (Gemma 3).
    """

    def read(stored: Stored) -> Fields:
        default = None if two_bases else ABSENT
        window = stored.take("attention.sliding_window", default)
        full = gguf_rope.rotations(stored)
        local: Fields = {"rope_base": 10_000.0} if two_bases else full
        base = stored.take("rope.freq_base_swa", None)
        if base is None and two_bases:
            base = stored.unsaid.take("rope_local_base_freq", default=10_000.0)
        local |= {} if base is None else {"rope_base": float(base)}
        if two_bases and not isinstance(full["rope_scaling"], Linear | None):
            reason = "layers with a window would have it too: it must be 'linear'"
            stored.settings.refuse("rope.scaling.type", "yarn", reason)
        return of_layers(
            tuple(
                LayerAttention(window=window or None, **local)
                if slides and window
                else LayerAttention(**full)
                for slides in _sliding(stored, period)
            )
        )

    return Part(read, _write_windows)


def _sliding(stored: Stored, period: int) -> list[bool]:
    """Return whether each layer has the window."""
    count = stored.take("block_count")
    pattern = stored.take("attention.sliding_window_pattern", None)
    pattern = stored.unsaid.take("sliding_window_pattern", pattern, default=period)
    if not isinstance(pattern, list):
        return [pattern == 0 or i % pattern < pattern - 1 for i in range(count)]
    if len(pattern) != count:
        stored.settings.refuse(
            "attention.sliding_window_pattern", pattern, f"it must be {count} flags"
        )
    return [bool(slides) for slides in pattern]


def _write_windows(fields: Mapping[str, Any]) -> Entries:
    kinds = layers_of(fields)
    full = next((kind for kind in kinds if kind.window is None), kinds[0])
    sliding = next((kind for kind in kinds if kind.window), None)
    entries = gguf_rope.written(full.rope_base, full.rope_scaling)
    if sliding is None:
        return {**entries, "attention.sliding_window_pattern": [False] * len(kinds)}
    return {
        **entries,
        "rope.freq_base_swa": sliding.rope_base,
        "attention.sliding_window": widest(kinds),
        "attention.sliding_window_pattern": [bool(kind.window) for kind in kinds],
    }


def _read_some_rotary(stored: Stored) -> Fields:
    """Read SmolLM3's layers, every fourth without rotations; no file says which."""
    every = stored.unsaid.take("no_rope_layer_interval", default=4)
    rotary = LayerAttention(**gguf_rope.rotations(stored))
    return of_layers(
        tuple(
            rotary if (i + 1) % every else LayerAttention(rotary=False)
            for i in range(stored.take("block_count"))
        )
    )


def _write_some_rotary(fields: Mapping[str, Any]) -> Entries:
    kinds = layers_of(fields)
    rotated = next((kind for kind in kinds if kind.rotary), kinds[0])
    return gguf_rope.written(rotated.rope_base, rotated.rope_scaling)


SOME_ROTARY = Part(_read_some_rotary, _write_some_rotary)


def query_scale(scalar: Callable[[Mapping[str, Any]], int]) -> Part:
    """Return the part of Gemma's factor on scores, which llama.cpp takes from sizes.

    Args:
      scalar: the number it is one over the root of, of sizes.
    """

    def read(stored: Stored) -> Fields:
        heads, dim = (
            stored.take("attention.head_count"),
            stored.take("embedding_length"),
        )
        sizes = {
            "dim": dim,
            "num_heads": heads,
            "num_layers": stored.take("block_count"),
            "head_dim": stored.take("attention.key_length", dim // heads),
        }
        value = stored.unsaid.take("query_pre_attn_scalar", default=scalar(sizes))
        return {"attention_scale": 1 / math.sqrt(value)}

    return Part(read)
