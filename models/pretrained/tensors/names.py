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


_PRE_NORMS = ("attention_norm/scale", "mlp_norm/scale")


def _biased(role: str, module: str) -> Names:
    """Return the names of a matrix and its bias."""
    return {role: f"{module}.weight", f"{role}_bias": f"{module}.bias"}


def _layer_norm(role: str, module: str) -> Names:
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
    **{role: name for role, name in DENSE.items() if role not in _PRE_NORMS},
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
    **_biased("mlp/router", _LAYER + "mlp.router"),
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
    **_layer_norm("norm", "transformer.ln_f"),
    **_layer_norm("attention_norm", _GPT + "ln_1"),
    **_layer_norm("mlp_norm", _GPT + "ln_2"),
    **_biased("attention/query", _GPT + "attn.q"),
    **_biased("attention/key", _GPT + "attn.k"),
    **_biased("attention/value", _GPT + "attn.v"),
    **_biased("attention/output", _GPT + "attn.c_proj"),
    **_biased("mlp/up", _GPT + "mlp.c_fc"),
    **_biased("mlp/down", _GPT + "mlp.c_proj"),
}
_NEOX = "gpt_neox.layers.{layer}."
GPT_NEOX: Names = {
    "embedding": "gpt_neox.embed_in.weight",
    "output": "embed_out.weight",
    **_layer_norm("norm", "gpt_neox.final_layer_norm"),
    **_layer_norm("attention_norm", _NEOX + "input_layernorm"),
    **_layer_norm("mlp_norm", _NEOX + "post_attention_layernorm"),
    **_biased("attention/query", _NEOX + "attention.q"),
    **_biased("attention/key", _NEOX + "attention.k"),
    **_biased("attention/value", _NEOX + "attention.v"),
    **_biased("attention/output", _NEOX + "attention.dense"),
    **_biased("mlp/up", _NEOX + "mlp.dense_h_to_4h"),
    **_biased("mlp/down", _NEOX + "mlp.dense_4h_to_h"),
}
STARCODER_2: Names = {
    **_HUGGING_FACE,
    "norm/bias": "model.norm.bias",
    "attention_norm/bias": _LAYER + "input_layernorm.bias",
    "mlp_norm/bias": _LAYER + "post_attention_layernorm.bias",
    "attention/output_bias": _ATTENTION + "o_proj.bias",
    **_biased("mlp/up", _LAYER + "mlp.c_fc"),
    **_biased("mlp/down", _LAYER + "mlp.c_proj"),
}

_GGUF = {
    "embedding": "token_embd.weight",
    "norm/scale": "output_norm.weight",
    "output": "output.weight",
    "attention_norm/scale": "blk.{layer}.attn_norm.weight",
    "mlp_norm/scale": "blk.{layer}.ffn_norm.weight",
    "attention/query": "blk.{layer}.attn_q.weight",
    "attention/key": "blk.{layer}.attn_k.weight",
    "attention/value": "blk.{layer}.attn_v.weight",
    "attention/output": "blk.{layer}.attn_output.weight",
    "attention/query_bias": "blk.{layer}.attn_q.bias",
    "attention/key_bias": "blk.{layer}.attn_k.bias",
    "attention/value_bias": "blk.{layer}.attn_v.bias",
    "attention/query_norm/scale": "blk.{layer}.attn_q_norm.weight",
    "attention/key_norm/scale": "blk.{layer}.attn_k_norm.weight",
}
GGUF_DENSE: Names = {
    **_GGUF,
    "mlp/gate": "blk.{layer}.ffn_gate.weight",
    "mlp/up": "blk.{layer}.ffn_up.weight",
    "mlp/down": "blk.{layer}.ffn_down.weight",
}
GGUF_OLMO2: Names = {
    **{role: name for role, name in GGUF_DENSE.items() if role not in _PRE_NORMS},
    "attention_post_norm/scale": "blk.{layer}.post_attention_norm.weight",
    "mlp_post_norm/scale": "blk.{layer}.post_ffw_norm.weight",
}
GGUF_GEMMA_2: Names = {
    **GGUF_DENSE,
    "attention_post_norm/scale": "blk.{layer}.post_attention_norm.weight",
    "mlp_post_norm/scale": "blk.{layer}.post_ffw_norm.weight",
}
GGUF_MOE: Names = {
    **_GGUF,
    "mlp/router": "blk.{layer}.ffn_gate_inp.weight",
    "mlp/gate": "blk.{layer}.ffn_gate_exps.weight",
    "mlp/up": "blk.{layer}.ffn_up_exps.weight",
    "mlp/down": "blk.{layer}.ffn_down_exps.weight",
}
GGUF_QWEN_2_MOE: Names = {
    **GGUF_MOE,
    "mlp/shared/gate": "blk.{layer}.ffn_gate_shexp.weight",
    "mlp/shared/up": "blk.{layer}.ffn_up_shexp.weight",
    "mlp/shared/down": "blk.{layer}.ffn_down_shexp.weight",
    "mlp/shared_gate": "blk.{layer}.ffn_gate_inp_shexp.weight",
}
GGUF_GPT: Names = {
    **_GGUF,
    **_layer_norm("norm", "output_norm"),
    **_layer_norm("attention_norm", "blk.{layer}.attn_norm"),
    **_layer_norm("mlp_norm", "blk.{layer}.ffn_norm"),
    **_biased("attention/output", "blk.{layer}.attn_output"),
    **_biased("mlp/up", "blk.{layer}.ffn_up"),
    **_biased("mlp/down", "blk.{layer}.ffn_down"),
}
GGUF_GPT_2: Names = {**GGUF_GPT, "positions": "position_embd.weight"}
