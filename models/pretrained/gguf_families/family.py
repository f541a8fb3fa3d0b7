"""Families of `.gguf` files in general, and fields that llama.cpp takes from others."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained.entries.part import Fields, Part
from models.pretrained.tensors import fusing, gguf_names, names


def nothing(fields: Mapping[str, Any]) -> Fields:
    """Return no field."""
    del fields
    return {}


def square(fields: Mapping[str, Any]) -> Fields:
    """Return heads that are together as wide as the stream."""
    return {"head_dim": fields["dim"] // fields["num_heads"]}


def one_to_one(fields: Mapping[str, Any]) -> Fields:
    """Return such heads, one of keys for each of queries."""
    return {**square(fields), "num_kv_heads": fields["num_heads"]}


def tied(fields: Mapping[str, Any]) -> Fields:
    """Return a head that is the embedding: llama.cpp looks for no other."""
    del fields
    return {"tie_head": True}


def untied(fields: Mapping[str, Any]) -> Fields:
    """Return a head of its own: llama.cpp looks for it."""
    del fields
    return {"tie_head": False}


def usual(fields: Mapping[str, Any]) -> float:
    """Return the usual factor on scores."""
    return 1 / math.sqrt(fields["head_dim"])


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
      parts: its entries and fields.
      names: of its tensors by role, for each kind of a layer's second half that
        llama.cpp has for it.
      interleaved: queries and keys lie in the order of interleaved rotations.
      interleaves_latents: rotations of latents are interleaved.
      says: settings that it has itself, and that no parameter has to take up.
      rope_factors: llama.cpp reads divisors of the frequencies from a tensor.
      long_rope: it reads those of short and of long texts.
      assumed: fields that llama.cpp takes from others, whatever the file says.
      check: refuses a model whose file llama.cpp would not load.
      attention_scale: the factor on scores that it takes from others.
      rules: of tensors that hold several of those that `names` expects.
    """

    parts: Sequence[Part]
    names: Mapping[type, names.Names]
    interleaved: bool = False
    interleaves_latents: bool = False
    says: frozenset[str] = frozenset()
    rope_factors: bool = False
    long_rope: bool = False
    assumed: Callable[[Mapping[str, Any]], Fields] = nothing
    check: Callable[[Mapping[str, Any]], object] = nothing
    attention_scale: Callable[[Mapping[str, Any]], float] = usual
    rules: Sequence[fusing.Rule] = ()


DENSE = {GatedMLP: gguf_names.DENSE}
MOE = {MoE: gguf_names.MOE}
