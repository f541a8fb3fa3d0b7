"""Parts of families in `.gguf` files: entries by their names after the family's."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from models import rope_scaling
from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained.entries.mlp import activation
from models.pretrained.entries.part import Entries, Fields, Part, entry
from models.pretrained.entries.settings import Settings
from models.pretrained.entries.unsaid import Unsaid


@dataclasses.dataclass(frozen=True)
class Stored:
    """What parts read: entries of a file, and all that stands beside them.

    Attributes:
      settings: entries of the file, by the rest of their names after the family's.
      unsaid: entries that the file does not have.
      rope_factors: divisors of the frequencies, where the file holds that tensor.
    """

    settings: Settings
    unsaid: Unsaid
    rope_factors: np.ndarray | None

    def take(self, name: str, *default: Any, absent: Any = None) -> Any:
        """Return an entry of the file, as `Settings.take`."""
        return self.settings.take(name, *default, absent=absent)


def rope_factors(fields: Mapping[str, Any]) -> np.ndarray | None:
    """Return the divisors of the frequencies that stand in a tensor, float32.

    As llama.cpp's converter has them, for scalings that no entry says.
    """
    scaling = fields["rope_scaling"]
    if scaling is None or isinstance(scaling, rope_scaling.Linear):
        return None
    if isinstance(scaling, rope_scaling.PerFrequency):
        return np.array(scaling.factors, np.float32)
    exponents = np.arange(0, fields["head_dim"], 2) / fields["head_dim"]
    frequencies = np.float32(fields["rope_base"] ** -exponents)
    return frequencies / np.asarray(scaling(frequencies))


def _read_heads(stored: Stored) -> Fields:
    dim = stored.take("embedding_length")
    heads = stored.take("attention.head_count")
    kv_heads = stored.take("attention.head_count_kv", heads)
    for name, value in [("head_count", heads), ("head_count_kv", kv_heads)]:
        if isinstance(value, list):
            stored.settings.refuse(f"attention.{name}", value, "it must be one number")
    head_dim = stored.take("attention.key_length", dim // heads)
    stored.settings.demand("attention.value_length", head_dim)
    stored.settings.demand("rope.dimension_count", head_dim)
    return {"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim}


def _write_heads(fields: Mapping[str, Any]) -> Entries:
    head_dim = fields["head_dim"]
    return {
        "attention.head_count": fields["num_heads"],
        "attention.head_count_kv": fields["num_kv_heads"],
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
    }


def _read_base(stored: Stored) -> Fields:
    base = stored.unsaid.take("rope_theta", stored.take("rope.freq_base", None))
    return {"rope_base": float(base)}


def _read_scaling(stored: Stored) -> Fields:
    settings, rope_factors = stored.settings, stored.rope_factors
    kind = settings.take("rope.scaling.type", "none")
    factor = settings.take("rope.scaling.factor", None)
    if kind not in ("none", "linear"):
        settings.refuse("rope.scaling.type", kind, "it must be 'none' or 'linear'")
    if kind == "linear" and rope_factors is not None:
        settings.refuse("rope.scaling.type", kind, "the file also holds rope_freqs")
    if kind == "linear":
        return {"rope_scaling": rope_scaling.Linear(factor=factor)}
    if rope_factors is None:
        return {"rope_scaling": None}
    factors = tuple(rope_factors.tolist())
    return {"rope_scaling": rope_scaling.PerFrequency(factors=factors)}


def _write_scaling(fields: Mapping[str, Any]) -> Entries:
    scaling = fields["rope_scaling"]
    if not isinstance(scaling, rope_scaling.Linear):
        return {}
    return {"rope.scaling.type": "linear", "rope.scaling.factor": scaling.factor}


def _read_window(stored: Stored) -> Fields:
    window = stored.take("attention.sliding_window", None)
    return {"attention_window": stored.unsaid.take("sliding_window", window)}


def mlp(*, act: str | None = None, renormalize: bool | None = None) -> Part:
    """Return the part of a layer's second half.

    Args:
      act: our name of the activation; None where a file leaves it out, and llama.cpp
        assumes silu.
      renormalize: gates sum to one; None where a file leaves that out, and llama.cpp
        assumes that they do.
    """
    return Part(
        functools.partial(_read_mlp, act=act, renormalize=renormalize), _write_mlp
    )


def _read_mlp(stored: Stored, *, act: str | None, renormalize: bool | None) -> Fields:
    experts = stored.take("expert_count", 0)
    if act is None:
        act = activation(stored.settings, stored.unsaid.take("hidden_act"))
    if not experts:
        width = stored.take("feed_forward_length")
        return {"mlp": functools.partial(GatedMLP, hidden_dim=width, activation=act)}
    unsaid = renormalize is None
    gates = stored.unsaid.take("norm_topk_prob") if unsaid else renormalize
    length = stored.take("expert_feed_forward_length", None)
    experts_of = functools.partial(
        MoE,
        num_experts=experts,
        experts_per_token=stored.take("expert_used_count"),
        hidden_dim=length or stored.take("feed_forward_length"),
        activation=act,
        renormalize=gates,
    )
    return {"mlp": experts_of}


def _write_mlp(fields: Mapping[str, Any]) -> Entries:
    width = fields["mlp.hidden_dim"]
    if fields["mlp"] is not MoE:
        return {"feed_forward_length": width}
    return {
        "expert_count": fields["mlp.num_experts"],
        "expert_used_count": fields["mlp.experts_per_token"],
        "feed_forward_length": width,  # which llama.cpp wants of every model
        "expert_feed_forward_length": width,
    }


COMMON = (
    entry("embedding_length", "dim"),
    entry("block_count", "num_layers"),
    Part(_read_heads, _write_heads),
    entry("attention.layer_norm_rms_epsilon", "norm_eps"),
    Part(_read_base, lambda fields: {"rope.freq_base": fields["rope_base"]}),
    Part(_read_scaling, _write_scaling),
)
WINDOW = Part(_read_window)
"""A window is read, and not written: llama.cpp has none for these architectures."""
