"""Tensor names of published files, by role: see `source.Source`."""

from collections.abc import Mapping

Names = Mapping[str, str]


def of(names: Names, role: str, rank: int) -> str:
    """Return the name of a role's tensor, "" if there is none.

    Args:
      names: of a family. Of arrays of some rank a role may have a name of its own, as
        `mlp/gate:2` for layers without experts.
      role: of the array.
      rank: of the array, without an axis for layers.
    """
    return names.get(f"{role}:{rank}", names.get(role, ""))


PRE_NORMS = ("attention_norm/scale", "mlp_norm/scale")


def biased(role: str, module: str) -> Names:
    """Return the names of a matrix and its bias."""
    return {role: f"{module}.weight", f"{role}_bias": f"{module}.bias"}


def layer_norm(role: str, module: str) -> Names:
    """Return the names of a norm's two vectors."""
    return {f"{role}/scale": f"{module}.weight", f"{role}/bias": f"{module}.bias"}


_LAYER = "model.layers.{layer}."
_ATTENTION = _LAYER + "self_attn."
_HUGGING_FACE = {
    "embedding": "model.embed_tokens.weight",
    "norm/scale": "model.norm.weight",
    "output": "lm_head.weight",
    "attention_norm/scale": _LAYER + "input_layernorm.weight",
    "mlp_norm/scale": _LAYER + "post_attention_layernorm.weight",
    "attention/query": _ATTENTION + "q_proj.weight",
    "attention/key": _ATTENTION + "k_proj.weight",
    "attention/value": _ATTENTION + "v_proj.weight",
    "attention/output": _ATTENTION + "o_proj.weight",
    "attention/query_bias": _ATTENTION + "q_proj.bias",
    "attention/key_bias": _ATTENTION + "k_proj.bias",
    "attention/value_bias": _ATTENTION + "v_proj.bias",
    "attention/query_norm/scale": _ATTENTION + "q_norm.weight",
    "attention/key_norm/scale": _ATTENTION + "k_norm.weight",
}
DENSE: Names = {
    **_HUGGING_FACE,
    "mlp/gate": _LAYER + "mlp.gate_proj.weight",
    "mlp/up": _LAYER + "mlp.up_proj.weight",
    "mlp/down": _LAYER + "mlp.down_proj.weight",
}
OLMO2: Names = {
    **{role: name for role, name in DENSE.items() if role not in PRE_NORMS},
    "attention_post_norm/scale": _LAYER + "post_attention_layernorm.weight",
    "mlp_post_norm/scale": _LAYER + "post_feedforward_layernorm.weight",
}
GEMMA_2: Names = {
    **DENSE,
    "attention_post_norm/scale": _LAYER + "post_attention_layernorm.weight",
    "mlp_norm/scale": _LAYER + "pre_feedforward_layernorm.weight",
    "mlp_post_norm/scale": _LAYER + "post_feedforward_layernorm.weight",
}
QWEN_MOE: Names = {
    **_HUGGING_FACE,
    "mlp/router": _LAYER + "mlp.gate.weight",
    "mlp/gate": _LAYER + "mlp.experts.{expert}.gate_proj.weight",
    "mlp/up": _LAYER + "mlp.experts.{expert}.up_proj.weight",
    "mlp/down": _LAYER + "mlp.experts.{expert}.down_proj.weight",
}
QWEN_2_MOE: Names = {
    **QWEN_MOE,
    "mlp/shared/gate": _LAYER + "mlp.shared_expert.gate_proj.weight",
    "mlp/shared/up": _LAYER + "mlp.shared_expert.up_proj.weight",
    "mlp/shared/down": _LAYER + "mlp.shared_expert.down_proj.weight",
    "mlp/shared_gate": _LAYER + "mlp.shared_expert_gate.weight",
}
GPT_OSS: Names = {
    **_HUGGING_FACE,
    "attention/output_bias": _ATTENTION + "o_proj.bias",
    "attention/sinks": _ATTENTION + "sinks",
    **biased("mlp/router", _LAYER + "mlp.router"),
    **{
        f"mlp/{role}{kind}": f"{_LAYER}mlp.experts.{role}_proj{kind}"
        for role in ("gate", "up", "down")
        for kind in ("", "_bias")
    },
}
MIXTRAL: Names = {
    **_HUGGING_FACE,
    "mlp/router": _LAYER + "block_sparse_moe.gate.weight",
    "mlp/gate": _LAYER + "block_sparse_moe.experts.{expert}.w1.weight",
    "mlp/up": _LAYER + "block_sparse_moe.experts.{expert}.w3.weight",
    "mlp/down": _LAYER + "block_sparse_moe.experts.{expert}.w2.weight",
}
_GPT = "transformer.h.{layer}."
GPT_2: Names = {
    "embedding": "transformer.wte.weight",
    "positions": "transformer.wpe.weight",
    "output": "lm_head.weight",
    **layer_norm("norm", "transformer.ln_f"),
    **layer_norm("attention_norm", _GPT + "ln_1"),
    **layer_norm("mlp_norm", _GPT + "ln_2"),
    **biased("attention/query", _GPT + "attn.q"),
    **biased("attention/key", _GPT + "attn.k"),
    **biased("attention/value", _GPT + "attn.v"),
    **biased("attention/output", _GPT + "attn.c_proj"),
    **biased("mlp/up", _GPT + "mlp.c_fc"),
    **biased("mlp/down", _GPT + "mlp.c_proj"),
}
_NEOX = "gpt_neox.layers.{layer}."
GPT_NEOX: Names = {
    "embedding": "gpt_neox.embed_in.weight",
    "output": "embed_out.weight",
    **layer_norm("norm", "gpt_neox.final_layer_norm"),
    **layer_norm("attention_norm", _NEOX + "input_layernorm"),
    **layer_norm("mlp_norm", _NEOX + "post_attention_layernorm"),
    **biased("attention/query", _NEOX + "attention.q"),
    **biased("attention/key", _NEOX + "attention.k"),
    **biased("attention/value", _NEOX + "attention.v"),
    **biased("attention/output", _NEOX + "attention.dense"),
    **biased("mlp/up", _NEOX + "mlp.dense_h_to_4h"),
    **biased("mlp/down", _NEOX + "mlp.dense_4h_to_h"),
}
STARCODER_2: Names = {
    **_HUGGING_FACE,
    "norm/bias": "model.norm.bias",
    "attention_norm/bias": _LAYER + "input_layernorm.bias",
    "mlp_norm/bias": _LAYER + "post_attention_layernorm.bias",
    "attention/output_bias": _ATTENTION + "o_proj.bias",
    **biased("mlp/up", _LAYER + "mlp.c_fc"),
    **biased("mlp/down", _LAYER + "mlp.c_proj"),
}
