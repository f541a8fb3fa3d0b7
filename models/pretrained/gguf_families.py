"""Families of models in `.gguf` files, by `general.architecture`."""

import functools
from typing import Any

import numpy as np

from models import rope_scaling
from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained import families, names
from models.pretrained.settings import Settings
from models.pretrained.unsaid import Unsaid

# Fields that go with the architecture's name.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"attention_bias": True},
    "qwen3": {"qk_norm": True},
    "qwen3moe": {"qk_norm": True},
}
_HARMLESS = (
    "context_length",
    "feed_forward_length",  # of a mixture whose experts have a length of their own
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "vocab_size",
)


def read(
    settings: Settings,
    unsaid: Unsaid,
    family: str,
    *,
    rope_factors: np.ndarray | None,
) -> tuple[dict[str, Any], names.Names]:
    """Return fields of `Transformer` but the embedding's, and tensor names by role.

    Args:
      settings: entries of the file, by the rest of their names after the family's.
      unsaid: entries that the file does not have.
      family: a key of `FAMILIES`.
      rope_factors: divisors of the frequencies, where the file holds that tensor.

    Raises:
      ValueError: for an entry that is not supported.
    """
    dim = settings.take("embedding_length")
    heads = settings.take("attention.head_count")
    kv_heads = settings.take("attention.head_count_kv", heads)
    for name, value in [("head_count", heads), ("head_count_kv", kv_heads)]:
        if isinstance(value, list):
            settings.refuse(f"attention.{name}", value, "it must be one number")
    head_dim = settings.take("attention.key_length", dim // heads)
    settings.demand("attention.value_length", head_dim)
    settings.demand("rope.dimension_count", head_dim)
    fields = {
        "dim": dim,
        "num_layers": settings.take("block_count"),
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "norm_eps": settings.take("attention.layer_norm_rms_epsilon"),
        "rope_base": float(
            unsaid.take("rope_theta", settings.take("rope.freq_base", None))
        ),
        "rope_scaling": _scaling(settings, rope_factors),
        "attention_window": unsaid.take(
            "sliding_window", settings.take("attention.sliding_window", None)
        ),
        **FAMILIES[family],
    }
    experts = settings.take("expert_count", 0)
    activation = families.activation(settings, unsaid.take("hidden_act"))
    if experts:
        # Mixtral, of the architecture `llama`, renormalizes always.
        renormalize = family == "llama" or unsaid.take("norm_topk_prob")
        fields["mlp"] = _experts(
            settings, experts, activation=activation, renormalize=renormalize
        )
    else:
        fields["mlp"] = functools.partial(
            GatedMLP,
            hidden_dim=settings.take("feed_forward_length"),
            activation=activation,
        )
    settings.finish(*_HARMLESS)
    unsaid.finish()
    return fields, names.GGUF_MOE if experts else names.GGUF_DENSE


def _scaling(settings: Settings, rope_factors: np.ndarray | None) -> Any:
    kind = settings.take("rope.scaling.type", "none")
    factor = settings.take("rope.scaling.factor", None)
    if kind not in ("none", "linear"):
        settings.refuse("rope.scaling.type", kind, "it must be 'none' or 'linear'")
    if kind == "linear" and rope_factors is not None:
        settings.refuse("rope.scaling.type", kind, "the file also holds rope_freqs")
    if kind == "linear":
        return rope_scaling.Linear(factor=factor)
    if rope_factors is None:
        return None
    return rope_scaling.PerFrequency(factors=tuple(rope_factors.tolist()))


def _experts(settings: Settings, num_experts: int, **fields: Any) -> functools.partial:
    length = settings.take("expert_feed_forward_length", None)
    return functools.partial(
        MoE,
        num_experts=num_experts,
        experts_per_token=settings.take("expert_used_count"),
        hidden_dim=length or settings.take("feed_forward_length"),
        **fields,
    )
