"""The tiny published models of `make parity`, and their expected logits."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from models import Transformer

FIXTURES = Path(__file__).parent / "fixtures"
FAMILIES = sorted(folder.name for folder in FIXTURES.iterdir())
NO_GGUF = {
    *("qwen2_some_sliding", "gpt_neox_serial", "qwen2_moe_sliding"),
    "deepseek_v3_plain_queries",
}
GGUF_FAMILIES = sorted(set(FAMILIES) - NO_GGUF)
# What llama.cpp's converter leaves out of a file, and the caller has to say.
UNSAID = {
    "gemma2": {"query_pre_attn_scalar": 24},
    "gpt_oss": {"truncate": False},
    "gpt_neox": {"hidden_act": "gelu"},
    "gemma3": {"query_pre_attn_scalar": 24, "sliding_window_pattern": 3},
    "linear_scaling": {"hidden_act": "gelu"},
    "mistral": {"sliding_window": 3},
    "qwen2_sliding": {"sliding_window": 3},
    "qwen3_moe_plain_gates": {"norm_topk_prob": False},
    "smollm3": {"no_rope_layer_interval": 2},
    "starcoder2": {"sliding_window": 3},
}
TOLERANCE = 1e-4  # of logits between -10 and 10, in float32


@functools.cache
def expected(family: str) -> dict[str, np.ndarray]:
    """Rows of tokens as the runner packs them, and logits from `transformers`."""
    return load_file(FIXTURES / family / "expected.safetensors")


@jax.jit
def _logits(model: Transformer, rows: dict[str, jax.Array]) -> jax.Array:
    return model.head(model.trunk(rows).hidden)


def logits(model: Transformer, rows: dict[str, np.ndarray]) -> np.ndarray:
    arrays = {name: jnp.asarray(value) for name, value in rows.items()}
    arrays.pop("logits")
    return np.asarray(_logits(model, arrays))


def largest_difference(model: Transformer, family: str) -> float:
    """Between the logits of `model` and those of `transformers`, padding aside."""
    rows = expected(family)
    difference = np.abs(logits(model, rows) - rows["logits"])
    return float(np.max(difference[rows["segment_ids"] > 0]))
