"""The part of attention over latents in `.gguf` files, with its rotations.

llama.cpp multiplies scores by `(A (1 + m ln f / 10))² / √d`, of YaRN's factor f, its
entry `rope.scaling.attn_factor` A (1 where there is none) and ten times its entry
`rope.scaling.yarn_log_multiplier`, m; rotations by A. Without m these are
`(A (1 + ln f / 10))² / √d` and `A (1 + ln f / 10)`.

Source: `models/deepseek2.cpp` and `llama-context.cpp` of llama-cpp-python 0.3.36.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from models import rope_scaling
from models.latent_attention import Latents
from models.pretrained.entries import gguf_rope
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.part import Entries, Fields, Part

_EPSILON = "attention.layer_norm_rms_epsilon"
_DIGITS = 12  # of factors that are computed back from what they did


def _read(stored: Stored) -> Fields:
    heads, rank = (
        stored.take("attention.head_count"),
        stored.take("attention.kv_lora_rank"),
    )
    rotated, epsilon = stored.take("rope.dimension_count"), stored.take(_EPSILON)
    width = stored.take("attention.key_length_mla", 0)
    if width:  # keys are latents and the rotated features, of one head
        value_dim = stored.take("attention.value_length_mla")
        sizes = {"head_count_kv": 1, "key_length": rank + rotated, "value_length": rank}
        for name, size in sizes.items():
            stored.settings.demand(f"attention.{name}", size)
    else:  # older files
        width = stored.take("attention.key_length")
        value_dim = stored.take("attention.value_length")
        stored.settings.demand("attention.head_count_kv", heads)
    latents = Latents(
        kv_rank=rank,
        query_rank=stored.take("attention.q_lora_rank", None),
        plain_dim=width - rotated,
        rope_dim=rotated,
        value_dim=value_dim,
        norm_eps=epsilon,
    )
    return {
        "num_heads": heads,
        "norm_eps": epsilon,
        "latents": latents,
        "rope_layout": "interleaved",
        **_read_rope(stored, latents),
    }


def _write(fields: Mapping[str, Any]) -> Entries:
    latents: Latents | None = fields["latents"]
    if latents is None:
        raise ValueError("deepseek2 has latents")
    queries = {}
    if latents.query_rank is not None:
        queries = {"attention.q_lora_rank": latents.query_rank}
    return {
        "attention.head_count": fields["num_heads"],
        "attention.head_count_kv": 1,
        _EPSILON: fields["norm_eps"],
        **queries,
        "attention.kv_lora_rank": latents.kv_rank,
        "attention.key_length": latents.kv_rank + latents.rope_dim,
        "attention.value_length": latents.kv_rank,
        "attention.key_length_mla": latents.head_dim,
        "attention.value_length_mla": latents.value_dim,
        "rope.dimension_count": latents.rope_dim,
        **_write_rope(fields, latents),
    }


def _read_rope(stored: Stored, latents: Latents) -> Fields:
    fields = gguf_rope.rotations(stored)
    scaling = fields["rope_scaling"]
    stated = stored.take("rope.scaling.yarn_attn_factor", None)
    multiplier = 10 * stored.take("rope.scaling.yarn_log_multiplier", 0.0)
    if scaling is None:
        return fields
    if not isinstance(scaling, rope_scaling.YaRN):
        kind = stored.take("rope.scaling.type")
        stored.settings.refuse("rope.scaling.type", kind, "it must be 'none' or 'yarn'")
    growth = rope_scaling.usual_amplitude(scaling.factor) - 1
    amplitude = stored.take("rope.scaling.attn_factor", 1.0)
    if multiplier == 0:
        amplitude, multiplier = amplitude * (1 + growth), 0.0
    if stated is not None and not math.isclose(stated, amplitude, rel_tol=1e-6):
        stored.settings.refuse(
            "rope.scaling.yarn_attn_factor", stated, f"llama.cpp takes {amplitude:.6g}"
        )
    root = amplitude * (1 + multiplier * growth)
    if math.isclose(amplitude, 1 + growth):
        amplitude = None
    return {
        "rope_base": fields["rope_base"],
        "rope_scaling": dataclasses.replace(scaling, amplitude=amplitude),
        "attention_scale": root * root / math.sqrt(latents.head_dim),
    }


def _write_rope(fields: Mapping[str, Any], latents: Latents) -> Entries:
    scaling = fields["rope_scaling"]
    entries = gguf_rope.written(fields["rope_base"], scaling)
    if not isinstance(scaling, rope_scaling.YaRN):
        return entries
    growth = rope_scaling.usual_amplitude(scaling.factor) - 1
    if growth == 0:
        raise ValueError(
            f"deepseek2 has a factor of YaRN above 1, not {scaling.factor}"
        )
    amplitude = rope_scaling.amplitude(scaling)
    root = math.sqrt(fields["attention_scale"] * math.sqrt(latents.head_dim))
    multiplier = round((root / amplitude - 1) / growth, _DIGITS)
    if multiplier:
        entries["rope.scaling.yarn_log_multiplier"] = multiplier / 10
    else:
        amplitude /= 1 + growth
    entries["rope.scaling.attn_factor"] = amplitude
    if math.isclose(amplitude, 1):
        del entries["rope.scaling.attn_factor"]
    return entries


LATENTS = Part(_read, _write)
