"""Tiny random models of every family, and their logits in `transformers`.

    make parity
    python tests/parity/build.py [FAMILY ...]

Runs in an environment of its own with CPU torch. Writes a folder a family under
tests/models/pretrained/fixtures: `config.json` and `model.safetensors` as
`save_pretrained` leaves them, and `expected.safetensors`: rows of tokens, the documents
they are packed with, and logits. `make test` needs no torch to check these.
"""

# Torch and transformers are in .venv-parity, which the linters do not see.
# pyright: reportMissingImports=false

import math
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers
import transformers.utils.logging as messages
from safetensors.numpy import save_file

FIXTURES = Path(__file__).parents[1] / "models" / "pretrained" / "fixtures"
VOCAB = 64
ROWS = [[12], [5, 7], [2, 6]]  # lengths of the documents; the last row is padded
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}
# As many of the eight features' frequencies stay, change and shrink.
YARN = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
EXPERTS = {"num_experts_per_tok": 2}
LATENTS = {
    "head_dim": None,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "moe_intermediate_size": 12,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
}
NULL = "null"
# By name of the fixture: the kind of configuration, and what sets it apart; None is an
# entry that it has not.
FAMILIES = {
    "llama": ("Llama", {}),
    "llama3_scaling": ("Llama", {"rope_parameters": LLAMA3}),
    "linear_scaling": ("Llama", {"rope_parameters": LINEAR, "hidden_act": "gelu"}),
    "smollm2": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "mistral": ("Mistral", {"sliding_window": 3}),
    "mixtral": ("Mixtral", {"num_local_experts": 3, **EXPERTS}),
    "qwen2": ("Qwen2", {"head_dim": 4}),
    "qwen2_sliding": (
        "Qwen2",
        {
            "head_dim": 4,
            "use_sliding_window": True,
            "sliding_window": 3,
            "max_window_layers": 0,
        },
    ),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "qwen3_moe": (
        "Qwen3Moe",
        {
            "num_experts": 4,
            "moe_intermediate_size": 12,
            "norm_topk_prob": True,
            **EXPERTS,
        },
    ),
    "qwen3_moe_plain_gates": (
        "Qwen3Moe",
        {
            "num_experts": 4,
            "moe_intermediate_size": 12,
            "norm_topk_prob": False,
            **EXPERTS,
        },
    ),
    "olmo2": ("Olmo2", {"num_key_value_heads": 2}),
    "olmoe": ("Olmoe", {"num_experts": 3, "head_dim": None, **EXPERTS}),
    "gemma": ("Gemma", {"head_dim": 8, "num_key_value_heads": 1}),
    "granite": (
        "Granite",
        {
            "head_dim": None,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.3,
            "logits_scaling": 0.7,
        },
    ),
    "gemma2": ("Gemma2", {"sliding_window": 3, "query_pre_attn_scalar": 24}),
    "gemma3": (
        "Gemma3Text",
        {
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "sliding_window": 3,
            "query_pre_attn_scalar": 24,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "linear",
                    "rope_theta": 500.0,
                    "factor": 2.0,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
    "smollm3": (
        "SmolLM3",
        {
            "no_rope_layers": [1, 0],
            "head_dim": None,
            "tie_word_embeddings": True,
            "pad_token_id": 0,
        },
    ),
    "qwen2_some_sliding": (
        "Qwen2",
        {
            "head_dim": 4,
            "use_sliding_window": True,
            "sliding_window": 3,
            "max_window_layers": 1,
        },
    ),
    "phi3": (
        "Phi3",
        {
            "head_dim": None,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "partial_rotary_factor": 0.5,
            "pad_token_id": 0,
        },
    ),
    "yarn": ("Qwen3", {"rope_parameters": YARN}),
    "yarn_other_turns": (
        "Llama",
        {
            "rope_parameters": {
                **YARN,
                "attention_factor": 1.3,
                "beta_fast": 3.0,
                "beta_slow": 0.5,
            }
        },
    ),
    "gpt2": (
        "GPT2",
        {
            **dict.fromkeys(SIZES),
            "vocab_size": VOCAB,
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 2,
            "n_inner": 64,
            "n_positions": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "gpt_neox": (
        "GPTNeoX",
        {
            "head_dim": None,
            "num_key_value_heads": None,
            "num_attention_heads": 2,
            "rotary_pct": 0.5,
        },
    ),
    "gpt_neox_serial": (
        "GPTNeoX",
        {
            "head_dim": None,
            "num_key_value_heads": None,
            "num_attention_heads": 2,
            "hidden_act": "gelu_pytorch_tanh",
            "use_parallel_residual": False,
            "attention_bias": False,
        },
    ),
    "starcoder2": ("Starcoder2", {"head_dim": None, "sliding_window": 3}),
    "qwen2_moe": (
        "Qwen2Moe",
        {
            "head_dim": None,
            "num_experts": 4,
            "moe_intermediate_size": 12,
            "shared_expert_intermediate_size": 24,
            **EXPERTS,
        },
    ),
    "qwen2_moe_sliding": (
        "Qwen2Moe",
        {
            "num_hidden_layers": 3,
            "head_dim": None,
            "num_experts": 4,
            "moe_intermediate_size": 12,
            "shared_expert_intermediate_size": 12,
            "norm_topk_prob": True,
            "use_sliding_window": True,
            "sliding_window": 3,
            "max_window_layers": 2,
            "qkv_bias": False,
            **EXPERTS,
        },
    ),
    # Documents of up to 7 tokens are short.
    "phi3_longrope": (
        "Phi3",
        {
            "head_dim": None,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "partial_rotary_factor": 0.5,
            "pad_token_id": 0,
            "original_max_position_embeddings": 7,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 100.0,
                "partial_rotary_factor": 0.5,
                "short_factor": [1.0, 1.5],
                "long_factor": [2.0, 6.0],
                # Of the lengths, as without it: llama.cpp's converter reads no other.
                "attention_factor": (1 + math.log(64 / 7) / math.log(7)) ** 0.5,
            },
        },
    ),
    "gpt_oss": (
        "GptOss",
        {
            "hidden_size": 32,
            "intermediate_size": 32,
            "sliding_window": 3,
            "num_local_experts": 4,
            "rope_parameters": {**YARN, "truncate": False},
            **EXPERTS,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3",
        {
            **LATENTS,
            "q_lora_rank": 12,
            "n_group": 4,
            "topk_group": 2,
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
            "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "deepseek_v3_plain_queries": (
        "DeepseekV3",
        {
            **LATENTS,
            "intermediate_size": 12,
            "q_lora_rank": NULL,
            "n_group": 1,
            "topk_group": 1,
            "n_shared_experts": 1,
            "first_k_dense_replace": 0,
            "norm_topk_prob": False,
            "routed_scaling_factor": 1.5,
            "rope_interleave": False,
            "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
        },
    ),
}
IN_BFLOAT16 = {"mistral", "qwen3", "deepseek_v3_plain_queries"}


def main(only: list[str]) -> None:
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    for seed, (name, (kind, entries)) in enumerate(FAMILIES.items()):
        if only and name not in only:  # the seed is that of its place
            continue
        folder = FIXTURES / name
        for file in folder.glob("*.safetensors"):  # `converted.gguf` stays
            file.unlink()
        draw = np.random.default_rng(seed)
        sizes = {n: x for n, x in (SIZES | entries).items() if x is not None}
        model = random_model(kind, sizes, draw)
        if name in IN_BFLOAT16:
            model = model.to(torch.bfloat16)
        model.save_pretrained(folder)
        if name in IN_BFLOAT16:  # read so, routers and their biases are in float32
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.bfloat16
            )
            model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        save_file(expected(loaded, draw), folder / "expected.safetensors")
        print(f"{name:24} {sum(p.numel() for p in loaded.parameters()):7,} parameters")
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}",
        file=sys.stderr,
    )


def random_model(kind: str, entries: dict, draw: np.random.Generator):
    """Every parameter random, norms and biases too, so that none can be left out."""
    entries = {n: None if x == NULL else x for n, x in entries.items()}
    config = getattr(transformers, f"{kind}Config")(**entries)
    causal = kind.removesuffix("Text")
    head = "LMHeadModel" if causal == "GPT2" else "ForCausalLM"
    model = getattr(transformers, f"{causal}{head}")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = draw.normal(size=tuple(parameter.shape))
            if name.endswith("weight") and ("norm" in name or ".ln_" in name):
                values = 1 + 0.2 * values
            elif name.endswith("gate_up_proj_bias"):
                values = 6 * values  # so that gpt-oss clamps some
            elif parameter.ndim == 1:
                values = 0.5 * values
            elif "embed" not in name and "lm_head" not in name:
                values = 1.2 * values / parameter.shape[-1] ** 0.5
            parameter.copy_(torch.from_numpy(values))
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                values = 0.1 * draw.normal(size=tuple(buffer.shape))
                buffer.copy_(torch.from_numpy(values))
    return model


@torch.no_grad()
def expected(model, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows as the runner packs them; each document's logits from a run of its own."""
    shape = (len(ROWS), max(sum(row) for row in ROWS))
    tokens, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    logits = np.zeros((*shape, VOCAB), np.float32)
    for row, lengths in enumerate(ROWS):
        start = 0
        for segment, length in enumerate(lengths):
            at = (row, slice(start, start + length))
            tokens[at] = draw.integers(0, VOCAB, length)
            segments[at] = segment + 1
            positions[at] = np.arange(length)
            ids = torch.from_numpy(tokens[at][None].astype(np.int64))
            logits[at] = model(ids).logits[0].numpy()
            start += length
    return {
        "tokens": tokens,
        "segment_ids": segments,
        "positions": positions,
        "logits": logits,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
