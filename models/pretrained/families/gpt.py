"""Families of GPT: layer norms, biases everywhere, plain feed-forward layers."""

from models.layer_attention import LayerAttention
from models.mlp import MLP
from models.pretrained.entries import gpt, part
from models.pretrained.entries.mlp import plain
from models.pretrained.entries.part import demanded, entry, fixed
from models.pretrained.entries.rope import rope
from models.pretrained.families.family import GROUPED, SIZES, Family
from models.pretrained.tensors import fusing
from models.pretrained.tensors.names import GPT_2, GPT_NEOX, STARCODER_2

_LAYER_NORMS = fixed(norm="layer")
_BIASES = fixed(attention_bias=True, attention_output_bias=True)
_FUSED = tuple(
    fusing.Fusion(
        whole=f"attn.c_attn.{kind}",
        parts=tuple(f"attn.{name}.{kind}" for name in "qkv"),
        shares=fusing.thirds,
    )
    for kind in ("weight", "bias")
)
_BY_HEAD = tuple(
    fusing.Fusion(
        whole=f"attention.query_key_value.{kind}",
        parts=tuple(f"attention.{name}.{kind}" for name in "qkv"),
        shares=fusing.thirds,
        groups=lambda fields: fields["num_heads"],
    )
    for kind in ("weight", "bias")
)
FAMILIES = {
    "gpt2": Family(
        parts=(
            entry("vocab_size", "vocab_size"),
            entry("n_embd", "dim"),
            entry("n_layer", "num_layers"),
            entry("n_head", "num_heads"),
            entry("n_positions", "learned_positions", absent=1024),
            entry("layer_norm_epsilon", "norm_eps", absent=1e-5),
            entry("tie_word_embeddings", "tie_head", False, absent=True),
            plain("n_inner", act="activation_function", default="gelu_new"),
            demanded("scale_attn_weights", True),
            demanded("add_cross_attention", False),
            demanded("scale_attn_by_inverse_layer_idx", False),
            part.ignored("reorder_and_upcast_attn"),  # of other rounding alone
            part.ignored("n_ctx"),  # n_positions, in older files
            fixed(attention_pattern=(LayerAttention(rotary=False),)),
            *(_LAYER_NORMS, _BIASES),
        ),
        names=GPT_2,
        architecture="GPT2LMHeadModel",
        mlp=MLP,
        rules=(
            fusing.Prefixed(prefix="transformer.", unless="transformer.wte.weight"),
            *(
                fusing.Transposed(whole=f"{name}.weight")
                for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
            ),
            *_FUSED,
        ),
        unused=(".attn.bias", ".attn.masked_bias"),
        context="n_positions",
    ),
    "gpt_neox": Family(
        parts=(
            *SIZES,
            entry("layer_norm_eps", "norm_eps", absent=1e-5),
            entry("tie_word_embeddings", "tie_head", False),
            rope(share=0.25, names=("rotary_emb_base", "rotary_pct")),
            gpt.RESIDUAL,
            gpt.biases("attention_bias"),
            plain(default="gelu"),
            part.ignored("classifier_dropout"),
            _LAYER_NORMS,
        ),
        names=GPT_NEOX,
        architecture="GPTNeoXForCausalLM",
        mlp=MLP,
        rules=_BY_HEAD,
        unused=(".attention.bias", ".attention.masked_bias"),
    ),
    "starcoder2": Family(
        parts=(
            *(*SIZES, GROUPED, rope()),
            entry("norm_epsilon", "norm_eps", absent=1e-5),
            entry("tie_word_embeddings", "tie_head", False, absent=True),
            entry("sliding_window", "attention_window", None),
            gpt.biases("use_bias"),
            plain(default="gelu_pytorch_tanh", bias="use_bias"),
            part.ignored("residual_dropout"),
            part.ignored("embedding_dropout"),
            _LAYER_NORMS,
        ),
        names=STARCODER_2,
        architecture="Starcoder2ForCausalLM",
        mlp=MLP,
    ),
}
