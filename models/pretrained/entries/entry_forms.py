"""Forms of configuration entries, by their names in `config.json` and `.gguf` files."""

import math
from typing import Any

_MOST = 10_000  # layers, experts: each has arrays of its own
_COUNTS = (
    "block_count",
    "expert_count",
    "num_experts",
    "n_layer",
    "num_hidden_layers",
    "num_local_experts",
    "n_routed_experts",
)
_POSITIVE = (
    "no_rope_layer_interval",
    "original_max_position_embeddings",
    "query_pre_attn_scalar",
    "sliding_window_pattern",
)
_INTEGERS = (
    "attention.key_length",
    "attention.key_length_mla",
    "attention.kv_lora_rank",
    "attention.q_lora_rank",
    "attention.sliding_window",
    "attention.value_length",
    "attention.value_length_mla",
    "context_length",
    "embedding_length",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_group_count",
    "expert_group_used_count",
    "expert_shared_count",
    "expert_shared_feed_forward_length",
    "expert_used_count",
    "feed_forward_length",
    "first_k_dense_replace",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "kv_lora_rank",
    "leading_dense_block_count",
    "n_embd",
    "n_group",
    "n_head",
    "n_inner",
    "n_positions",
    "n_shared_experts",
    "max_position_embeddings",
    "max_window_layers",
    "moe_intermediate_size",
    "num_attention_heads",
    "num_experts_per_tok",
    "num_mtp_layers",
    "num_nextn_predict_layers",
    "num_key_value_heads",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "rope.dimension_count",
    "rope.scaling.original_context_length",
    "shared_expert_intermediate_size",
    "sliding_window",
    "topk_group",
    "v_head_dim",
    "vocab_size",
)
_NUMBERS = (
    "attention_factor",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention_multiplier",
    "attn_logit_softcapping",
    "beta_fast",
    "beta_slow",
    "embedding_multiplier",
    "embedding_scale",
    "expert_weights_scale",
    "factor",
    "final_logit_softcapping",
    "high_freq_factor",
    "logit_scale",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "logits_scaling",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "norm_epsilon",
    "partial_rotary_factor",
    "residual_multiplier",
    "residual_scale",
    "rms_norm_eps",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
    "rope_local_base_freq",
    "rope_theta",
    "rotary_emb_base",
    "rotary_pct",
    "routed_scaling_factor",
    "swiglu_alpha",
    "swiglu_limit",
)
_FLAGS = (
    "attention_bias",
    "expert_weights_norm",
    "norm_topk_prob",
    "qkv_bias",
    "rope_interleave",
    "tie_word_embeddings",
    "truncate",
    "use_bias",
    "use_parallel_residual",
    "use_sliding_window",
)
_TEXTS = (
    "activation_function",
    "hidden_act",
    "hidden_activation",
    "model_type",
    "rope.scaling.type",
    "rope_type",
    "scoring_func",
    "type",
)
_OBJECTS = ("rope_parameters", "rope_scaling")


def check(name: str, value: Any) -> None:
    """Refuse an entry of another type than its name asks for, or without measure.

    Raises:
      ValueError: with the name, what is wanted, and the value.
    """
    wanted = _wanted(name, value)
    if wanted:
        text = repr(value)
        text = text if len(text) <= 60 else text[:57] + "..."
        raise ValueError(f"{name} must be {wanted}, got {text}")


def _wanted(name: str, value: Any) -> str:
    """Return the form that a value does not have; "" where it has it."""
    if name in _COUNTS:
        fits = _is_integer(value, below=_MOST)
        return "" if fits else f"an integer below {_MOST:,}"
    if name in _INTEGERS:
        return "" if _is_integer(value, below=2**31) else "an integer of 31 bits"
    if name in _POSITIVE:
        fits = _is_integer(value, below=2**31) and value
        return "" if fits else "a positive integer of 31 bits"
    if name in _NUMBERS:
        is_number = type(value) in (int, float) and math.isfinite(value)
        return "" if is_number and abs(value) < 1e30 else "a number"
    if name in _FLAGS:
        return "" if isinstance(value, bool) else "true or false"
    if name in _TEXTS:
        return "" if isinstance(value, str) else "a string"
    if name in _OBJECTS:
        return "" if isinstance(value, dict) else "an object"
    if name == "layer_types":
        is_list = isinstance(value, list) and all(isinstance(x, str) for x in value)
        return "" if is_list else "a list of strings"
    if name == "attention.sliding_window_pattern":  # a period, or a flag a layer
        flags = value if isinstance(value, list) else [value]
        fits = all(type(x) in (bool, int) and 0 <= x < _MOST for x in flags)
        return "" if fits else f"an integer below {_MOST:,}, or a list of flags"
    if name in ("long_factor", "short_factor"):
        fits = isinstance(value, list) and all(
            type(x) in (int, float) and 0 < x < 1e30 for x in value
        )
        return "" if fits else "a list of positive numbers"
    if name == "no_rope_layers":
        fits = isinstance(value, list) and all(x in (0, 1) for x in value)
        return "" if fits else "a list of 0 and 1"
    if name == "eos_token_id":
        ids = value if isinstance(value, list) else [value]
        fits = all(_is_integer(x, below=2**31) for x in ids)
        return "" if fits else "an integer of 31 bits, or a list of such"
    if name.startswith("attention.head_count"):  # those of each layer: refused later
        numbers = value if isinstance(value, list) else [value]
        fits = numbers and all(_is_integer(x, below=2**31) and x for x in numbers)
        return "" if fits else "a positive integer"
    return ""


def _is_integer(value: Any, *, below: int) -> bool:
    return type(value) is int and 0 <= value < below
