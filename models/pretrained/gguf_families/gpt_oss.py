"""gpt-oss: sinks, biases everywhere, windows of every other layer, clamped experts."""

import functools
from collections.abc import Mapping
from typing import Any

from models.moe import MoE
from models.pretrained.entries import gguf, gguf_window
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.part import Entries, Fields, Part, fixed
from models.pretrained.gguf_families.family import Family, untied
from models.pretrained.tensors import gguf_names


def _read_experts(stored: Stored) -> Fields:
    mlp = functools.partial(
        MoE,
        num_experts=stored.take("expert_count"),
        hidden_dim=stored.take("expert_feed_forward_length"),
        experts_per_token=stored.take("expert_used_count"),
        activation="gelu_sigmoid",
        biases=True,
        clamp=stored.unsaid.take("swiglu_limit"),
        renormalize=True,
    )
    return {"mlp": mlp}


def _write_experts(fields: Mapping[str, Any]) -> Entries:
    width = fields["mlp.hidden_dim"]
    return {
        "expert_count": fields["mlp.num_experts"],
        "expert_used_count": fields["mlp.experts_per_token"],
        "expert_feed_forward_length": width,
        "feed_forward_length": width,  # which llama.cpp wants of every model
    }


def _write_windows(fields: Mapping[str, Any]) -> Entries:
    entries = gguf_window.windows(2).write(fields)
    if "attention.sliding_window" not in entries:
        raise ValueError("gpt-oss has layers with a window")
    return entries


FAMILIES = {
    "gpt-oss": Family(
        parts=(
            *gguf.SIZES,
            Part(gguf_window.windows(2).read, _write_windows),
            Part(_read_experts, _write_experts),
            fixed(
                attention_bias=True, attention_output_bias=True, attention_sinks=True
            ),
        ),
        names={MoE: gguf_names.GPT_OSS},
        assumed=untied,
    ),
}
