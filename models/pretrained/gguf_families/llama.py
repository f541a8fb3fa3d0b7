"""Llama, and families that differ from it in biases, experts or norms."""

from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained.entries import gguf
from models.pretrained.entries.part import fixed
from models.pretrained.gguf_families.family import (
    DENSE,
    MOE,
    Family,
    one_to_one,
    square,
)
from models.pretrained.tensors import fusing, gguf_names

_OLMO_NORMS = fixed(qk_norm=True, qk_norm_over="heads")
FAMILIES = {
    "llama": Family(
        # Mixtral is of this architecture, and renormalizes always.
        parts=(*gguf.COMMON, gguf.WINDOW, gguf.mlp(renormalize=True)),
        names={**DENSE, **MOE},
        interleaved=True,
        rope_factors=True,
    ),
    "qwen2": Family(
        parts=(*gguf.COMMON, gguf.WINDOW, gguf.mlp(), fixed(attention_bias=True)),
        names=DENSE,
    ),
    "qwen2moe": Family(
        parts=(
            *(*gguf.COMMON, gguf.WINDOW, gguf.mlp(renormalize=False, shared=True)),
            fixed(attention_bias=True),
        ),
        names={MoE: gguf_names.QWEN_2_MOE},
        rules=(fusing.Vector(whole="ffn_gate_inp_shexp.weight"),),
    ),
    "qwen3": Family(
        parts=(*gguf.COMMON, gguf.WINDOW, gguf.mlp(), fixed(qk_norm=True)),
        names=DENSE,
    ),
    "qwen3moe": Family(
        parts=(*gguf.COMMON, gguf.WINDOW, gguf.mlp(), fixed(qk_norm=True)),
        names=MOE,
    ),
    "olmo2": Family(
        parts=(*gguf.COMMON, gguf.mlp(), _OLMO_NORMS, fixed(norm_placement="post")),
        names={GatedMLP: gguf_names.OLMO2},
        assumed=square,
    ),
    "olmoe": Family(
        parts=(*gguf.COMMON, gguf.mlp(renormalize=False), _OLMO_NORMS),
        names=MOE,
        assumed=one_to_one,
    ),
}
