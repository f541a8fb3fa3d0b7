"""Families of models in `.gguf` files, by `general.architecture`."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from models import rope_scaling
from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained import names
from models.pretrained.entries import part
from models.pretrained.entries.mlp import activation
from models.pretrained.entries.part import Entries, Fields, Part, entry
from models.pretrained.entries.settings import Settings
from models.pretrained.unsaid import Unsaid


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
      fields: that go with its name.
      names: of its tensors by role, for each kind of a layer's second half that
        llama.cpp has for it.
      interleaved: queries and keys lie in the order of interleaved rotations.
    """

    fields: Mapping[str, Any]
    names: Mapping[type, names.Names]
    interleaved: bool = False


_DENSE = {GatedMLP: names.GGUF_DENSE}
_MOE = {MoE: names.GGUF_MOE}
FAMILIES: dict[str, Family] = {
    "llama": Family({}, {**_DENSE, **_MOE}, interleaved=True),
    "qwen2": Family({"attention_bias": True}, _DENSE),
    "qwen3": Family({"qk_norm": True}, _DENSE),
    "qwen3moe": Family({"qk_norm": True}, _MOE),
}
_HARMLESS = (
    "context_length",
    "feed_forward_length",  # of a mixture whose experts have a length of their own
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "vocab_size",
)


@dataclasses.dataclass(frozen=True)
class Stored:
    """What parts read: entries of a file, and all that stands beside them.

    Attributes:
      settings: entries of the file, by the rest of their names after the family's.
      unsaid: entries that the file does not have.
      family: a key of `FAMILIES`.
      rope_factors: divisors of the frequencies, where the file holds that tensor.
    """

    settings: Settings
    unsaid: Unsaid
    family: str
    rope_factors: np.ndarray | None

    def take(self, name: str, *default: Any, absent: Any = None) -> Any:
        """Return an entry of the file, as `Settings.take`."""
        return self.settings.take(name, *default, absent=absent)


def read(stored: Stored) -> tuple[Fields, names.Names]:
    """Return fields of `Transformer` but the embedding's, and tensor names by role.

    Raises:
      ValueError: for an entry that is not supported.
    """
    fields = part.read(_PARTS, stored) | dict(FAMILIES[stored.family].fields)
    stored.settings.finish(*_HARMLESS)
    stored.unsaid.finish()
    kind = fields["mlp"].func
    if kind not in FAMILIES[stored.family].names:
        experts = "experts" if kind is MoE else "no experts"
        stored.settings.refuse(
            "expert_count",
            fields["mlp"].keywords.get("num_experts", 0),
            f"{stored.family} models with {experts} are not known",
        )
    return fields, FAMILIES[stored.family].names[kind]


def write(fields: Mapping[str, Any]) -> Entries:
    """Return the entries for all fields of a model; those that a file has no word for
    are left out.
    """
    return part.write(_PARTS, fields)


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


def _read_mlp(stored: Stored) -> Fields:
    experts = stored.take("expert_count", 0)
    act = activation(stored.settings, stored.unsaid.take("hidden_act"))
    if not experts:
        width = stored.take("feed_forward_length")
        mlp = functools.partial(GatedMLP, hidden_dim=width, activation=act)
        return {"mlp": mlp}
    length = stored.take("expert_feed_forward_length", None)
    mlp = functools.partial(
        MoE,
        num_experts=experts,
        experts_per_token=stored.take("expert_used_count"),
        hidden_dim=length or stored.take("feed_forward_length"),
        activation=act,
        # Mixtral, of the architecture `llama`, renormalizes always.
        renormalize=stored.family == "llama" or stored.unsaid.take("norm_topk_prob"),
    )
    return {"mlp": mlp}


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


_PARTS = (
    entry("embedding_length", "dim"),
    entry("block_count", "num_layers"),
    Part(_read_heads, _write_heads),
    entry("attention.layer_norm_rms_epsilon", "norm_eps"),
    Part(_read_base, lambda fields: {"rope.freq_base": fields["rope_base"]}),
    Part(_read_scaling, _write_scaling),
    # A window is read, and not written: llama.cpp has none for these architectures.
    Part(_read_window),
    Part(_read_mlp, _write_mlp),
)
