"""Families of published models, by `model_type` of their `config.json`.

A reader a family, from the entries of the file to fields of `Transformer`. An absent
entry means what it does to the family's class in transformers 5.24.0.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from models import rope_scaling
from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained import harmless, names
from models.pretrained.settings import Settings

Fields = dict[str, Any]

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu_exact",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
}
# Of the rotations, where the file names none; else 10,000.
_ROPE_BASES = {"mixtral": 1_000_000.0}
_QWEN_FULL_LAYERS = 28  # `max_window_layers`, where the file names none
_WINDOW = 4096  # where the file has no such entry; null is no window


def read(settings: Settings) -> tuple[Fields, Mapping[str, str], tuple[int, ...]]:
    """Return fields of `Transformer`, tensor names by role, and ids that end a text.

    Raises:
      ValueError: for a family or an entry that is not supported.
    """
    kind = settings.take("model_type")
    if kind not in FAMILIES:
        settings.refuse("model_type", kind, f"it must be one of {sorted(FAMILIES)}")
    for entry in ("quantization_config", "quantization"):
        settings.demand_unquantized(entry)
    family, tensor_names = FAMILIES[kind]
    rope = _rope(settings, default=_ROPE_BASES.get(kind, 10_000.0))
    fields = _common(settings) | rope | family(settings)
    ends = settings.take("eos_token_id", [])
    settings.finish(*harmless.ENTRIES)
    return fields, tensor_names, tuple(ends if isinstance(ends, list) else [ends])


def _common(settings: Settings) -> Fields:
    settings.demand("attention_bias", False)  # it would put one on the output too
    settings.demand("mlp_bias", False)
    settings.demand("partial_rotary_factor", 1.0)
    settings.demand("pretraining_tp", 1)  # slices products in another order
    return {
        "vocab_size": settings.take("vocab_size"),
        "dim": settings.take("hidden_size"),
        "num_layers": settings.take("num_hidden_layers"),
        "num_heads": settings.take("num_attention_heads"),
        "norm_eps": settings.take("rms_norm_eps"),
        "tie_head": settings.take("tie_word_embeddings", False),
    }


def _rope(settings: Settings, *, default: float) -> Fields:
    """Read `rope_theta` and `rope_scaling` of old files, `rope_parameters` of new."""
    settings.demand("rope_interleaved", False)
    old = settings.take("rope_scaling", {})
    entries = Settings(settings.file, settings.take("rope_parameters", old))
    outer = settings.take("rope_theta", None)
    base = entries.take("rope_theta", default if outer is None else outer)
    if outer is not None and outer != base:
        settings.refuse("rope_theta", outer, f"rope_parameters has another, {base}")
    entries.demand("partial_rotary_factor", 1.0)
    kind = entries.take("rope_type", entries.take("type", "default"))
    scaling = None
    if kind == "linear":
        scaling = rope_scaling.Linear(factor=entries.take("factor"))
    elif kind == "llama3":
        scaling = rope_scaling.Llama3(
            factor=entries.take("factor"),
            low_turns=entries.take("low_freq_factor"),
            high_turns=entries.take("high_freq_factor"),
            original_length=entries.take("original_max_position_embeddings"),
        )
    elif kind != "default":
        entries.refuse("rope type", kind, "it must be 'default', 'linear' or 'llama3'")
    entries.finish()
    return {"rope_base": float(base), "rope_scaling": scaling}


def _llama(settings: Settings) -> Fields:
    heads = {"num_kv_heads": settings.take("num_key_value_heads", None)}
    return heads | _head_dim(settings) | _dense(settings)


def _mistral(settings: Settings) -> Fields:
    window = settings.take("sliding_window", None, absent=_WINDOW)
    fields = _grouped(settings) | _head_dim(settings) | {"attention_window": window}
    return fields | _dense(settings)


def _mixtral(settings: Settings) -> Fields:
    experts = _experts(
        settings,
        num_experts=settings.take("num_local_experts"),
        hidden_dim=settings.take("intermediate_size"),
        renormalize=True,
    )
    window = {"attention_window": settings.take("sliding_window", None)}
    return _grouped(settings) | _head_dim(settings) | experts | window


def _qwen2(settings: Settings) -> Fields:
    fields = _grouped(settings) | _head_dim(settings) | _dense(settings)
    return fields | {"attention_bias": True} | _layered_window(settings)


def _qwen3(settings: Settings) -> Fields:
    fields = _grouped(settings) | {"head_dim": settings.take("head_dim")}
    return fields | {"qk_norm": True} | _dense(settings) | _layered_window(settings)


def _qwen3_moe(settings: Settings) -> Fields:
    settings.demand("decoder_sparse_step", 1)
    settings.demand("mlp_only_layers", [])
    settings.take("intermediate_size", None)  # of layers that are not there
    settings.take("max_window_layers", None)  # every layer has the window, or none
    local = settings.take("num_local_experts", None)  # as newer files call it
    experts = settings.take("num_experts", *([] if local is None else [local]))
    mlp = _experts(
        settings,
        num_experts=experts,
        hidden_dim=settings.take("moe_intermediate_size"),
        renormalize=settings.take("norm_topk_prob"),
    )
    fields = _grouped(settings) | {"head_dim": settings.take("head_dim")}
    return fields | {"qk_norm": True} | mlp | _qwen_window(settings)


def _grouped(settings: Settings) -> Fields:
    return {"num_kv_heads": settings.take("num_key_value_heads")}


def _head_dim(settings: Settings) -> Fields:
    return {"head_dim": settings.take("head_dim", None)}


def _dense(settings: Settings) -> Fields:
    width = settings.take("intermediate_size")
    mlp = functools.partial(
        GatedMLP, hidden_dim=width, activation=_hidden_act(settings)
    )
    return {"mlp": mlp}


def _experts(settings: Settings, **fields: Any) -> Fields:
    mlp = functools.partial(
        MoE,
        experts_per_token=settings.take("num_experts_per_tok"),
        activation=_hidden_act(settings),
        **fields,
    )
    return {"mlp": mlp}


def _hidden_act(settings: Settings) -> str:
    return activation(settings, settings.take("hidden_act", "silu"))


def activation(settings: Settings, name: str) -> str:
    """Return our name of a `hidden_act`.

    Raises:
      ValueError: there is none.
    """
    if name not in ACTIVATIONS:
        settings.refuse("hidden_act", name, f"it must be one of {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _qwen_window(settings: Settings) -> Fields:
    """Read a window that is off unless `use_sliding_window`."""
    window = settings.take("sliding_window", None, absent=_WINDOW)
    enabled = settings.take("use_sliding_window", False)
    return {"attention_window": window if enabled else None}


def _layered_window(settings: Settings) -> Fields:
    """Read a window of layers from `max_window_layers` on, or of `layer_types`."""
    window = _qwen_window(settings)["attention_window"]
    layers = settings.take("num_hidden_layers")
    first = settings.take("max_window_layers", _QWEN_FULL_LAYERS)
    kinds = settings.take("layer_types", [])
    if not kinds and window is not None:
        first = min(first, layers)
        kinds = [_FULL] * first + [_SLIDING] * (layers - first)
    if set(kinds) <= {_FULL}:
        return {"attention_window": None}
    if set(kinds) != {_SLIDING} or window is None:
        settings.refuse(
            "layer_types",
            kinds,
            f"they must all be {_FULL!r}, or all {_SLIDING!r} with a sliding_window",
        )
    return {"attention_window": window}


_FULL, _SLIDING = "full_attention", "sliding_attention"
FAMILIES: Mapping[str, tuple[Callable[[Settings], Fields], names.Names]] = {
    "llama": (_llama, names.DENSE),
    "mistral": (_mistral, names.DENSE),
    "mixtral": (_mixtral, names.MIXTRAL),
    "qwen2": (_qwen2, names.DENSE),
    "qwen3": (_qwen3, names.DENSE),
    "qwen3_moe": (_qwen3_moe, names.QWEN_MOE),
}
