"""SmolLM3, Phi and Granite."""

from collections.abc import Mapping
from typing import Any

from models import rope_scaling
from models.mlp import GatedMLP
from models.pretrained.entries import part, window
from models.pretrained.entries.part import Entries, Part, entry
from models.pretrained.entries.rope import rope
from models.pretrained.families.family import (
    COMMON,
    DENSE,
    HEAD_DIM,
    OPTIONAL_GROUPED,
    Family,
)
from models.pretrained.tensors import fusing, names

_PHI_3 = (
    fusing.Fusion(
        whole="self_attn.qkv_proj.weight",
        parts=tuple(f"self_attn.{name}_proj.weight" for name in "qkv"),
        shares=fusing.heads,
    ),
    fusing.Fusion(
        whole="mlp.gate_up_proj.weight",
        parts=("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        shares=fusing.halves,
    ),
)


def _length_before(fields: Mapping[str, Any]) -> Entries:
    """Return the length before an extension, which counts before that of rotations."""
    scaling = fields["rope_scaling"]
    if not isinstance(scaling, rope_scaling.LongRoPE):
        return {}
    return {"original_max_position_embeddings": scaling.original_length}


_LENGTH_BEFORE = Part(
    part.ignored("original_max_position_embeddings").read, _length_before
)
FAMILIES = {
    "smollm3": Family(
        parts=(
            *(*COMMON, window.SOME_ROTARY, HEAD_DIM, DENSE),
            entry("num_key_value_heads", "num_kv_heads", None, absent=4),
            entry("tie_word_embeddings", "tie_head", False, absent=True),
        ),
        names=names.DENSE,
        architecture="SmolLM3ForCausalLM",
        mlp=GatedMLP,
    ),
    "phi3": Family(
        parts=(
            *(
                *COMMON,
                rope(share=1.0, kinds=["default", "longrope"]),
                HEAD_DIM,
                DENSE,
                OPTIONAL_GROUPED,
            ),
            entry("sliding_window", "attention_window", None),
            _LENGTH_BEFORE,
        ),
        names=names.DENSE,
        architecture="Phi3ForCausalLM",
        mlp=GatedMLP,
        rules=_PHI_3,
    ),
    "granite": Family(
        parts=(
            *(*COMMON, rope(), HEAD_DIM, DENSE, OPTIONAL_GROUPED),
            entry("embedding_multiplier", "embedding_scale", 1.0),
            entry("residual_multiplier", "residual_scale", 1.0),
            entry("attention_multiplier", "attention_scale", 1.0),
            entry("logits_scaling", "logit_divisor", 1.0),
        ),
        names=names.DENSE,
        architecture="GraniteForCausalLM",
        mlp=GatedMLP,
        says=frozenset({"attention_scale", "embedding_scale"}),
    ),
}
