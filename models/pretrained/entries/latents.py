"""The parts of attention over latents, and of its rotations."""

import math
from collections.abc import Mapping
from typing import Any

from models import rope_scaling
from models.latent_attention import Latents
from models.pretrained.entries import rope
from models.pretrained.entries.part import Entries, Fields, Part
from models.pretrained.entries.settings import Settings

_DIGITS = 12  # of factors that are computed back from what they did


def _read_latents(settings: Settings) -> Fields:
    heads = settings.take("num_attention_heads")
    kv_heads = settings.take("num_key_value_heads", heads)
    if kv_heads != heads:
        settings.refuse(
            "num_key_value_heads", kv_heads, f"it must be {heads}, as of queries"
        )
    latents = Latents(
        kv_rank=settings.take("kv_lora_rank"),
        query_rank=settings.take("q_lora_rank", None, absent=1536),
        plain_dim=settings.take("qk_nope_head_dim"),
        rope_dim=settings.take("qk_rope_head_dim"),
        value_dim=settings.take("v_head_dim"),
    )
    for name in ("head_dim", "qk_head_dim"):  # follow from those
        settings.take(name, None)
    return {"latents": latents}


def _write_latents(fields: Mapping[str, Any]) -> Entries:
    latents: Latents | None = fields["latents"]
    if latents is None:
        raise ValueError("deepseek_v3 has latents")
    return {
        "num_key_value_heads": fields["num_heads"],
        "kv_lora_rank": latents.kv_rank,
        "q_lora_rank": latents.query_rank,
        "qk_nope_head_dim": latents.plain_dim,
        "qk_rope_head_dim": latents.rope_dim,
        "v_head_dim": latents.value_dim,
    }


def _read_rope(settings: Settings) -> Fields:
    """Read rotations, and the factor on scores that follows from YaRN's."""
    fields = rope.rotations(settings)
    interleaved = settings.take("rope_interleave", False, absent=True)
    fields["rope_layout"] = "interleaved" if interleaved else "split"
    entries = settings.take("rope_parameters", settings.take("rope_scaling", {}))
    scale = entries.get("mscale_all_dim")
    if isinstance(fields["rope_scaling"], rope_scaling.YaRN) and scale:
        factor = 1 + scale * _growth(fields["rope_scaling"])
        fields["attention_scale"] = _usual(settings) * factor * factor
    return fields


def _usual(settings: Settings) -> float:
    names = ("qk_nope_head_dim", "qk_rope_head_dim")
    return 1 / math.sqrt(sum(settings.take(name) for name in names))


def _growth(scaling: rope_scaling.YaRN) -> float:
    return rope_scaling.usual_amplitude(scaling.factor) - 1


def _write_rope(fields: Mapping[str, Any]) -> Entries:
    scaling = fields["rope_scaling"]
    written = rope.written(fields["rope_base"], scaling)
    written["rope_interleave"] = fields["rope_layout"] == "interleaved"
    square = fields["attention_scale"] * math.sqrt(fields["head_dim"])
    if not isinstance(scaling, rope_scaling.YaRN) or math.isclose(square, 1):
        return written
    growth, below = _growth(scaling), math.sqrt(square)
    parameters = written["rope_parameters"]
    parameters["mscale_all_dim"] = round((below - 1) / growth, _DIGITS)
    amplitude = parameters.pop("attention_factor", None)
    if amplitude is not None:
        parameters["mscale"] = round((amplitude * below - 1) / growth, _DIGITS)
    return written


LATENTS = Part(_read_latents, _write_latents)
ROPE = Part(_read_rope, _write_rope)
