"""Tensor names of `.gguf` files, by role."""

from models.pretrained.tensors.deepseek_names import WITHOUT
from models.pretrained.tensors.names import PRE_NORMS, Names, biased, layer_norm

_ALL: Names = {
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
DENSE: Names = {
    **_ALL,
    "mlp/gate": "blk.{layer}.ffn_gate.weight",
    "mlp/up": "blk.{layer}.ffn_up.weight",
    "mlp/down": "blk.{layer}.ffn_down.weight",
}
OLMO2: Names = {
    **{role: name for role, name in DENSE.items() if role not in PRE_NORMS},
    "attention_post_norm/scale": "blk.{layer}.post_attention_norm.weight",
    "mlp_post_norm/scale": "blk.{layer}.post_ffw_norm.weight",
}
GEMMA_2: Names = {
    **DENSE,
    "attention_post_norm/scale": "blk.{layer}.post_attention_norm.weight",
    "mlp_post_norm/scale": "blk.{layer}.post_ffw_norm.weight",
}
MOE: Names = {
    **_ALL,
    "mlp/router": "blk.{layer}.ffn_gate_inp.weight",
    "mlp/gate": "blk.{layer}.ffn_gate_exps.weight",
    "mlp/up": "blk.{layer}.ffn_up_exps.weight",
    "mlp/down": "blk.{layer}.ffn_down_exps.weight",
}
QWEN_2_MOE: Names = {
    **MOE,
    "mlp/shared/gate": "blk.{layer}.ffn_gate_shexp.weight",
    "mlp/shared/up": "blk.{layer}.ffn_up_shexp.weight",
    "mlp/shared/down": "blk.{layer}.ffn_down_shexp.weight",
    "mlp/shared_gate": "blk.{layer}.ffn_gate_inp_shexp.weight",
}
GPT: Names = {
    **_ALL,
    **layer_norm("norm", "output_norm"),
    **layer_norm("attention_norm", "blk.{layer}.attn_norm"),
    **layer_norm("mlp_norm", "blk.{layer}.ffn_norm"),
    **biased("attention/output", "blk.{layer}.attn_output"),
    **biased("mlp/up", "blk.{layer}.ffn_up"),
    **biased("mlp/down", "blk.{layer}.ffn_down"),
}
GPT_2: Names = {**GPT, "positions": "position_embd.weight"}
_GATED = ("gate", "up", "down")
GPT_OSS: Names = {
    **{role: name for role, name in MOE.items() if role != "mlp_norm/scale"},
    "mlp_norm/scale": "blk.{layer}.post_attention_norm.weight",
    **biased("attention/output", "blk.{layer}.attn_output"),
    "attention/sinks": "blk.{layer}.attn_sinks.weight",
    **biased("mlp/router", "blk.{layer}.ffn_gate_inp"),
    **{
        role: name
        for x in _GATED
        for role, name in biased(f"mlp/{x}", f"blk.{{layer}}.ffn_{x}_exps").items()
    },
}
DEEPSEEK: Names = {
    **{role: name for role, name in MOE.items() if not role.startswith(WITHOUT)},
    "attention/query_latent": "blk.{layer}.attn_q_a.weight",
    "attention/query_latent_norm/scale": "blk.{layer}.attn_q_a_norm.weight",
    "attention/query_up": "blk.{layer}.attn_q_b.weight",
    "attention/latent": "blk.{layer}.attn_kv_a_mqa.weight",
    "attention/latent_norm/scale": "blk.{layer}.attn_kv_a_norm.weight",
    "attention/key_value": "blk.{layer}.attn_kv_b.weight",
    "mlp/bias": "blk.{layer}.exp_probs_b.bias",
    **{f"mlp/shared/{x}": f"blk.{{layer}}.ffn_{x}_shexp.weight" for x in _GATED},
    **{f"mlp/{x}:2": DENSE[f"mlp/{x}"] for x in _GATED},
}
