"""The tiny published models as `.gguf` files, converted as llama.cpp converts them."""

import json
import math
import re
import shutil
from pathlib import Path

import gguf
import numpy as np
import safetensors

from tests.models.pretrained.tables import FIXTURES

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "qwen2_moe": "qwen2moe",
    "olmo2": "olmo2",
    "olmoe": "olmoe",
    "gemma": "gemma",
    "granite": "granite",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "smollm3": "smollm3",
    "phi3": "phi3",
}
_INTERLEAVED = ("llama", "granite", "smollm3")


def write(family: str, folder: Path, **entries) -> Path:
    """The fixture `family` as a file; `entries` (`_` for `.`) join its metadata."""
    converted = FIXTURES / family / "converted.gguf"  # of tests/parity/convert.py
    if converted.exists():
        return Path(shutil.copy(converted, folder / f"{family}.gguf"))
    config = json.loads((FIXTURES / family / "config.json").read_text())
    architecture = ARCHITECTURES[config["model_type"]]
    file = folder / f"{family}.gguf"
    writer = gguf.GGUFWriter(file, architecture)
    _write_metadata(writer, config)
    for name, value in entries.items():
        writer.add_uint32(name, value)
    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH[architecture.upper()], config["num_hidden_layers"]
    )
    for name, tensor in _merged(_tensors(family)).items():
        if architecture in _INTERLEAVED and "q_proj" in name:
            tensor = permuted(tensor, config["num_attention_heads"])
        if architecture in _INTERLEAVED and "k_proj" in name:
            tensor = permuted(tensor, config["num_key_value_heads"])
        if name.endswith("shared_expert_gate.weight"):
            tensor = tensor.squeeze()  # llama.cpp wants a vector
        if architecture.startswith("gemma") and "norm" in name:
            tensor = tensor + 1
        renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert renamed, name
        writer.add_tensor(renamed, np.ascontiguousarray(tensor))
    if config["rope_parameters"].get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows `i` and `i + half` of each head become rows `2i` and `2i + 1`."""
    rows = weights.shape[0] // heads
    order = np.arange(rows).reshape(2, rows // 2).T.reshape(-1)
    all_rows = (np.arange(heads)[:, None] * rows + order).reshape(-1)
    return weights[all_rows]


def llama3_factors(config: dict) -> np.ndarray:
    """Divisors of the frequencies, by wavelength, as the converter has them."""
    rope, size = config["rope_parameters"], config["head_dim"]
    context = rope["original_max_position_embeddings"]
    slow, fast = context / rope["low_freq_factor"], context / rope["high_freq_factor"]
    factors = []
    for i in range(0, size, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / size)
        if wavelength < fast:
            factors.append(1.0)
        elif wavelength > slow:
            factors.append(rope["factor"])
        else:
            smooth = (context / wavelength - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def _write_metadata(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    head_dim = config.get("head_dim", head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    rope = config["rope_parameters"]
    rope = rope.get("full_attention", rope)
    share = rope.get("partial_rotary_factor", 1.0)
    writer.add_rope_dimension_count(int(share * head_dim))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_eos_token_id(config["eos_token_id"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        _write_yarn(writer, rope)
    if config["model_type"].startswith("gemma") and "layer_types" in config:
        writer.add_sliding_window(config["sliding_window"])
    if config["model_type"] == "phi3":
        writer.add_sliding_window(config["sliding_window"] or 0)
    if "sliding_attention" in config["rope_parameters"]:
        local = config["rope_parameters"]["sliding_attention"]["rope_theta"]
        writer.add_rope_freq_base_swa(local)
    if config["model_type"] == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if config["model_type"] == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if "num_experts_per_tok" in config:
        count = config.get("num_experts") or config["num_local_experts"]
        writer.add_expert_count(count)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if "shared_expert_intermediate_size" in config:
        width = config["shared_expert_intermediate_size"]
        writer.add_expert_shared_feed_forward_length(width)


def _write_yarn(writer: gguf.GGUFWriter, rope: dict) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    for name, add in {
        "attention_factor": writer.add_rope_scaling_yarn_attn_factor,
        "beta_fast": writer.add_rope_scaling_yarn_beta_fast,
        "beta_slow": writer.add_rope_scaling_yarn_beta_slow,
    }.items():
        if name in rope:
            add(rope[name])


def _tensors(family: str) -> dict[str, np.ndarray]:
    file = FIXTURES / family / "model.safetensors"
    with safetensors.safe_open(file, framework="numpy") as tensors:
        names = list(tensors.keys())
        return {name: tensors.get_tensor(name).astype(np.float32) for name in names}


def _merged(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Experts, one tensor each, as one tensor for all of a layer."""
    merged: dict[str, list[np.ndarray]] = {}
    for name in sorted(tensors):
        merged.setdefault(re.sub(r"experts\.\d+\.", "experts.", name), []).append(
            tensors[name]
        )
    return {
        name: np.stack(parts) if ".experts." in name else parts[0]
        for name, parts in merged.items()
    }
