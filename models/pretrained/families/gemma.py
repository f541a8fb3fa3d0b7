"""The text models of Gemma."""

from models.mlp import GatedMLP
from models.pretrained.entries import part, window
from models.pretrained.entries.mlp import dense
from models.pretrained.entries.part import demanded, entry, fixed
from models.pretrained.entries.rope import rope
from models.pretrained.families.family import (
    COMMON,
    EXPLICIT_HEAD_DIM,
    GROUPED,
    Family,
)
from models.pretrained.tensors import names

_GEMMA = (
    *(GROUPED, EXPLICIT_HEAD_DIM, part.embedding_scale("hidden_size")),
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
FAMILIES = {
    "gemma": Family(
        parts=(
            *(*COMMON, rope(), *_GEMMA),
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
            *(*COMMON, window.ALTERNATING, *_GEMMA, *_GEMMA_2),
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
            *(*COMMON, window.TWO_BASES, *_GEMMA, *_GEMMA_2, fixed(qk_norm=True)),
            entry("attn_logit_softcapping", "attention_soft_cap", None),
            entry("final_logit_softcapping", "logit_soft_cap", None),
        ),
        names=names.GEMMA_2,
        architecture="Gemma3ForCausalLM",
        mlp=GatedMLP,
        says=frozenset({"attention_scale", "embedding_scale", "norm_offset"}),
    ),
}
