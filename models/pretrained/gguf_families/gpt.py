"""Families of GPT: layer norms, biases everywhere, plain feed-forward layers."""

from collections.abc import Mapping
from typing import Any

from models.layer_attention import LayerAttention
from models.mlp import MLP
from models.pretrained.entries import gguf, gguf_rope, gpt
from models.pretrained.entries.part import Fields, entry, fixed
from models.pretrained.gguf_families.family import Family, square, untied
from models.pretrained.tensors import fusing, gguf_names


def _untied(fields: Mapping[str, Any]) -> Fields:
    """Return square heads, and a head of its own."""
    return {**square(fields), **untied(fields)}


_FUSED = tuple(
    fusing.Fusion(
        whole=f"attn_qkv.{kind}",
        parts=tuple(f"attn_{name}.{kind}" for name in "qkv"),
        shares=fusing.thirds,
    )
    for kind in ("weight", "bias")
)
_BIASES = fixed(norm="layer", attention_bias=True, attention_output_bias=True)
_EPSILON = "attention.layer_norm_epsilon"
FAMILIES = {
    "gpt2": Family(
        parts=(
            *(*gguf.sizes(epsilon=_EPSILON), gguf.plain("gelu_new"), _BIASES),
            entry("context_length", "learned_positions"),
            fixed(attention_pattern=(LayerAttention(rotary=False),)),
        ),
        names={MLP: gguf_names.GPT_2},
        assumed=square,
        rules=_FUSED,
    ),
    "gptneox": Family(
        parts=(
            *(*gguf.sizes(partial=True, epsilon=_EPSILON), gguf_rope.ROPE),
            *(gguf.plain("gelu_new"), gpt.RESIDUAL, _BIASES),
        ),
        names={MLP: gguf_names.GPT},
        assumed=_untied,
        rules=_FUSED,
    ),
    "starcoder2": Family(
        parts=(
            *(*gguf.sizes(epsilon=_EPSILON), gguf_rope.ROPE, gguf.WINDOW),
            *(gguf.plain("gelu_pytorch_tanh"), _BIASES),
        ),
        names={MLP: gguf_names.GPT},
        assumed=square,
    ),
}
