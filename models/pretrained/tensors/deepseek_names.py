"""Tensor names of DeepSeek-V3, by role."""

from models.pretrained.tensors.names import DENSE, QWEN_MOE, Names

_LAYER = "model.layers.{layer}."
_ATTENTION = _LAYER + "self_attn."
_SHARED = _LAYER + "mlp.shared_experts."
WITHOUT = ("attention/key", "attention/value")  # made of the latent
DEEPSEEK: Names = {
    **{role: name for role, name in QWEN_MOE.items() if not role.startswith(WITHOUT)},
    "attention/query_up": _ATTENTION + "q_b_proj.weight",
    "attention/query_latent": _ATTENTION + "q_a_proj.weight",
    "attention/query_latent_norm/scale": _ATTENTION + "q_a_layernorm.weight",
    "attention/latent": _ATTENTION + "kv_a_proj_with_mqa.weight",
    "attention/latent_norm/scale": _ATTENTION + "kv_a_layernorm.weight",
    "attention/key_value": _ATTENTION + "kv_b_proj.weight",
    "mlp/bias": _LAYER + "mlp.gate.e_score_correction_bias",
    **{f"mlp/shared/{x}": f"{_SHARED}{x}_proj.weight" for x in ("gate", "up", "down")},
    **{f"mlp/{x}:2": DENSE[f"mlp/{x}"] for x in ("gate", "up", "down")},
}
