"""Families of published models, by `model_type` of their `config.json`.

Each is a sequence of parts, which turn entries of the file into fields of `Transformer`
and back. An absent entry means what it does to the family's class in transformers
5.24.0; what is written has the form in which 5.24.0 writes it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained import fusing, harmless, names
from models.pretrained.entries import part, window
from models.pretrained.entries.mlp import dense, experts
from models.pretrained.entries.part import Entries, Fields, Part, demanded, entry, fixed
from models.pretrained.entries.rope import rope
from models.pretrained.entries.settings import Settings


@dataclasses.dataclass(frozen=True)
class Family:
    """One `model_type`.

    Attributes:
      parts: its entries and fields.
      names: of its tensors, by role.
      architecture: the class in transformers.
      mlp: the kind of its layers' second half.
      says: settings that it has itself, and that no parameter has to take up.
      rules: of tensors that hold several of those that `names` expects.
    """

    parts: Sequence[Part]
    names: names.Names
    architecture: str
    mlp: type
    says: frozenset[str] = frozenset()
    rules: Sequence[fusing.Rule] = ()


def read(settings: Settings) -> tuple[Fields, Family, tuple[int, ...]]:
    """Return fields of `Transformer`, the family, and ids that end a text.

    Raises:
      ValueError: for a family or an entry that is not supported.
    """
    kind = settings.take("model_type")
    if kind not in FAMILIES:
        settings.refuse("model_type", kind, f"it must be one of {sorted(FAMILIES)}")
    for name in ("quantization_config", "quantization"):
        settings.demand_unquantized(name)
    family = FAMILIES[kind]
    fields = part.read(family.parts, settings)
    ends = settings.take("eos_token_id", [])
    settings.finish(*harmless.ENTRIES)
    return fields, family, tuple(ends if isinstance(ends, list) else [ends])


def write(kind: str, fields: Mapping[str, Any]) -> Entries:
    """Return the entries of `config.json` for a model of a family, by `model_type`."""
    family = FAMILIES[kind]
    entries = part.write(family.parts, fields)
    return {"model_type": kind, "architectures": [family.architecture], **entries}


_COMMON = (
    demanded("attention_bias", False),  # it would put one on the output too
    demanded("mlp_bias", False),
    demanded("pretraining_tp", 1),  # slices products in another order
    entry("vocab_size", "vocab_size"),
    entry("hidden_size", "dim"),
    entry("num_hidden_layers", "num_layers"),
    entry("num_attention_heads", "num_heads"),
    entry("rms_norm_eps", "norm_eps"),
    entry("tie_word_embeddings", "tie_head", False),
)
_DENSE = dense()
_GROUPED = entry("num_key_value_heads", "num_kv_heads")
_HEAD_DIM = entry("head_dim", "head_dim", None)
_EXPLICIT_HEAD_DIM = entry("head_dim", "head_dim")

_OPTIONAL_GROUPED = entry("num_key_value_heads", "num_kv_heads", None)
_OLMO_NORMS = fixed(qk_norm=True, qk_norm_over="heads")
_GEMMA = (
    *(_GROUPED, _EXPLICIT_HEAD_DIM, part.embedding_scale("hidden_size")),
    demanded("use_bidirectional_attention", False),
    entry("tie_word_embeddings", "tie_head", False, absent=True),
    fixed(norm_offset=1.0),
)
_GEMMA_2 = (
    part.root("query_pre_attn_scalar", "attention_scale", absent=256),
    dense("hidden_activation", default="gelu_pytorch_tanh"),
    part.ignored("hidden_act"),
    fixed(norm_placement="both"),
)

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

FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        parts=(*(*_COMMON, rope(), _HEAD_DIM, _DENSE, _OPTIONAL_GROUPED),),
        names=names.DENSE,
        architecture="LlamaForCausalLM",
        mlp=GatedMLP,
    ),
    "mistral": Family(
        parts=(
            *(*_COMMON, rope(), _GROUPED, _HEAD_DIM, _DENSE),
            entry("sliding_window", "attention_window", None, absent=window.ABSENT),
        ),
        names=names.DENSE,
        architecture="MistralForCausalLM",
        mlp=GatedMLP,
    ),
    "mixtral": Family(
        parts=(
            *(*_COMMON, rope(default=1_000_000.0), _GROUPED, _HEAD_DIM),
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
            *(*_COMMON, window.QWEN, _GROUPED, _HEAD_DIM, _DENSE),
            fixed(attention_bias=True),
        ),
        names=names.DENSE,
        architecture="Qwen2ForCausalLM",
        mlp=GatedMLP,
    ),
    "qwen3": Family(
        parts=(
            *(*_COMMON, window.QWEN, _GROUPED, _EXPLICIT_HEAD_DIM, _DENSE),
            fixed(qk_norm=True),
        ),
        names=names.DENSE,
        architecture="Qwen3ForCausalLM",
        mlp=GatedMLP,
    ),
    "qwen3_moe": Family(
        parts=(
            *(*_COMMON, rope(), _GROUPED, _EXPLICIT_HEAD_DIM),
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
    "olmo2": Family(
        parts=(
            *(*_COMMON, rope(), _HEAD_DIM, _DENSE, _OPTIONAL_GROUPED, _OLMO_NORMS),
            fixed(norm_placement="post"),
        ),
        names=names.OLMO2,
        architecture="Olmo2ForCausalLM",
        mlp=GatedMLP,
    ),
    "olmoe": Family(
        parts=(
            *(*_COMMON, rope(), _HEAD_DIM, _OPTIONAL_GROUPED, _OLMO_NORMS),
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
    "gemma": Family(
        parts=(
            *(*_COMMON, rope(), *_GEMMA),
            dense(default="gelu_pytorch_tanh", legacy="gelu"),
            demanded("hidden_activation", "gelu_pytorch_tanh"),
        ),
        names=names.DENSE,
        architecture="GemmaForCausalLM",
        mlp=GatedMLP,
        says=frozenset({"embedding_scale", "norm_offset"}),
    ),
    "gemma2": Family(
        parts=(
            *(*_COMMON, window.ALTERNATING, *_GEMMA, *_GEMMA_2),
            entry("attn_logit_softcapping", "attention_soft_cap", None, absent=50.0),
            entry("final_logit_softcapping", "logit_soft_cap", None, absent=30.0),
        ),
        names=names.GEMMA_2,
        architecture="Gemma2ForCausalLM",
        mlp=GatedMLP,
        says=frozenset({"attention_scale", "embedding_scale", "norm_offset"}),
    ),
    "gemma3_text": Family(
        parts=(
            *(*_COMMON, window.TWO_BASES, *_GEMMA, *_GEMMA_2, fixed(qk_norm=True)),
            entry("attn_logit_softcapping", "attention_soft_cap", None),
            entry("final_logit_softcapping", "logit_soft_cap", None),
        ),
        names=names.GEMMA_2,
        architecture="Gemma3ForCausalLM",
        mlp=GatedMLP,
        says=frozenset({"attention_scale", "embedding_scale", "norm_offset"}),
    ),
    "smollm3": Family(
        parts=(
            *(*_COMMON, window.SOME_ROTARY, _HEAD_DIM, _DENSE),
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
                *_COMMON,
                rope(share=1.0, kinds=["default"]),
                _HEAD_DIM,
                _DENSE,
                _OPTIONAL_GROUPED,
            ),
            entry("sliding_window", "attention_window", None),
            part.ignored("original_max_position_embeddings"),  # of scaled rotations
        ),
        names=names.DENSE,
        architecture="Phi3ForCausalLM",
        mlp=GatedMLP,
        rules=_PHI_3,
    ),
    "granite": Family(
        parts=(
            *(*_COMMON, rope(), _HEAD_DIM, _DENSE, _OPTIONAL_GROUPED),
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
