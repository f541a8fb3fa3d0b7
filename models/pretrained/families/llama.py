"""Llama, and families that differ from it in windows, biases, experts or norms."""

from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained.entries import part, window
from models.pretrained.entries.mlp import experts
from models.pretrained.entries.part import demanded, entry, fixed
from models.pretrained.entries.rope import rope
from models.pretrained.families.family import (
    COMMON,
    DENSE,
    EXPLICIT_HEAD_DIM,
    GROUPED,
    HEAD_DIM,
    OPTIONAL_GROUPED,
    Family,
)
from models.pretrained.tensors import names

_OLMO_NORMS = fixed(qk_norm=True, qk_norm_over="heads")
FAMILIES = {
    "llama": Family(
        parts=(*(*COMMON, rope(), HEAD_DIM, DENSE, OPTIONAL_GROUPED),),
        names=names.DENSE,
        architecture="LlamaForCausalLM",
        mlp=GatedMLP,
    ),
    "mistral": Family(
        parts=(
            *(*COMMON, rope(), GROUPED, HEAD_DIM, DENSE),
            entry("sliding_window", "attention_window", None, absent=window.ABSENT),
        ),
        names=names.DENSE,
        architecture="MistralForCausalLM",
        mlp=GatedMLP,
    ),
    "mixtral": Family(
        parts=(
            *(*COMMON, rope(default=1_000_000.0), GROUPED, HEAD_DIM),
            experts(
                count=("num_local_experts",), width="intermediate_size", renormalize=""
            ),
            entry("sliding_window", "attention_window", None),
        ),
        names=names.MIXTRAL,
        architecture="MixtralForCausalLM",
        mlp=MoE,
    ),
    "qwen2": Family(
        parts=(
            *(*COMMON, window.QWEN, GROUPED, HEAD_DIM, DENSE),
            fixed(attention_bias=True),
        ),
        names=names.DENSE,
        architecture="Qwen2ForCausalLM",
        mlp=GatedMLP,
    ),
    "qwen3": Family(
        parts=(
            *(*COMMON, window.QWEN, GROUPED, EXPLICIT_HEAD_DIM, DENSE),
            fixed(qk_norm=True),
        ),
        names=names.DENSE,
        architecture="Qwen3ForCausalLM",
        mlp=GatedMLP,
    ),
    "qwen3_moe": Family(
        parts=(
            *(*COMMON, rope(), GROUPED, EXPLICIT_HEAD_DIM),
            demanded("decoder_sparse_step", 1),
            demanded("mlp_only_layers", []),
            part.ignored("intermediate_size"),  # of layers that are not there
            part.ignored("max_window_layers"),  # every layer has the window, or none
            experts(
                count=("num_local_experts", "num_experts"),
                width="moe_intermediate_size",
                renormalize="norm_topk_prob",
            ),
            *(window.SWITCHED, fixed(qk_norm=True)),
        ),
        names=names.QWEN_MOE,
        architecture="Qwen3MoeForCausalLM",
        mlp=MoE,
    ),
    "qwen2_moe": Family(
        parts=(
            *(*COMMON, window.QWEN_2_MOE, GROUPED, HEAD_DIM),
            demanded("decoder_sparse_step", 1),
            demanded("mlp_only_layers", []),
            part.ignored("intermediate_size"),  # of layers that are not there
            experts(
                count=("num_experts",),
                width="moe_intermediate_size",
                renormalize="norm_topk_prob",
                shared="shared_expert_intermediate_size",
            ),
            entry("qkv_bias", "attention_bias", absent=True),
        ),
        names=names.QWEN_2_MOE,
        architecture="Qwen2MoeForCausalLM",
        mlp=MoE,
    ),
    "olmo2": Family(
        parts=(
            *(*COMMON, rope(), HEAD_DIM, DENSE, OPTIONAL_GROUPED, _OLMO_NORMS),
            fixed(norm_placement="post"),
        ),
        names=names.OLMO2,
        architecture="Olmo2ForCausalLM",
        mlp=GatedMLP,
    ),
    "olmoe": Family(
        parts=(
            *(*COMMON, rope(), HEAD_DIM, OPTIONAL_GROUPED, _OLMO_NORMS),
            demanded("clip_qkv"),
            experts(
                count=("num_experts",),
                width="intermediate_size",
                renormalize="norm_topk_prob",
            ),
        ),
        names=names.QWEN_MOE,
        architecture="OlmoeForCausalLM",
        mlp=MoE,
    ),
}
