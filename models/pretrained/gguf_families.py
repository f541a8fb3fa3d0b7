"""Families of models in `.gguf` files, by `general.architecture`."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained import fusing, names
from models.pretrained.entries import gguf, gguf_rope, gguf_window, part
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.part import Entries, Fields, Part, entry, fixed


def _nothing(fields: Mapping[str, Any]) -> Fields:
    """Return no field."""
    del fields
    return {}


def _square(fields: Mapping[str, Any]) -> Fields:
    """Return heads that are together as wide as the stream."""
    return {"head_dim": fields["dim"] // fields["num_heads"]}


def _one_to_one(fields: Mapping[str, Any]) -> Fields:
    """Return such heads, one of keys for each of queries."""
    return {**_square(fields), "num_kv_heads": fields["num_heads"]}


def _tied(fields: Mapping[str, Any]) -> Fields:
    """Return a head that is the embedding: llama.cpp looks for no other."""
    del fields
    return {"tie_head": True}


def _usual(fields: Mapping[str, Any]) -> float:
    """Return the usual factor on scores."""
    return 1 / math.sqrt(fields["head_dim"])


def _scalar(layers: int) -> Callable[[Mapping[str, Any]], int]:
    """Return Gemma's `query_pre_attn_scalar`, another for its model of 27B."""

    def scalar(fields: Mapping[str, Any]) -> int:
        largest = fields["num_layers"] == layers
        return fields["dim"] // fields["num_heads"] if largest else fields["head_dim"]

    return scalar


_GEMMA_2, _GEMMA_3 = _scalar(46), _scalar(62)


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
      parts: its entries and fields.
      names: of its tensors by role, for each kind of a layer's second half that
        llama.cpp has for it.
      interleaved: queries and keys lie in the order of interleaved rotations.
      says: settings that it has itself, and that no parameter has to take up.
      rope_factors: llama.cpp reads divisors of the frequencies from a tensor.
      assumed: fields that llama.cpp takes from others, whatever the file says.
      attention_scale: the factor on scores that it takes from others.
      rules: of tensors that hold several of those that `names` expects.
    """

    parts: Sequence[Part]
    names: Mapping[type, names.Names]
    interleaved: bool = False
    says: frozenset[str] = frozenset()
    rope_factors: bool = False
    assumed: Callable[[Mapping[str, Any]], Fields] = _nothing
    attention_scale: Callable[[Mapping[str, Any]], float] = _usual
    rules: Sequence[fusing.Rule] = ()


_DENSE = {GatedMLP: names.GGUF_DENSE}
_MOE = {MoE: names.GGUF_MOE}
_OLMO_NORMS = fixed(qk_norm=True, qk_norm_over="heads")
_PHI_3 = (
    fusing.Fusion(
        whole="attn_qkv.weight",
        parts=tuple(f"attn_{name}.weight" for name in "qkv"),
        shares=fusing.heads,
    ),
    fusing.Fusion(
        whole="ffn_up.weight",
        parts=("ffn_gate.weight", "ffn_up.weight"),
        shares=fusing.halves,
    ),
)
FAMILIES: dict[str, Family] = {
    "llama": Family(
        # Mixtral is of this architecture, and renormalizes always.
        parts=(*gguf.COMMON, gguf.WINDOW, gguf.mlp(renormalize=True)),
        names={**_DENSE, **_MOE},
        interleaved=True,
        rope_factors=True,
    ),
    "qwen2": Family(
        parts=(*gguf.COMMON, gguf.WINDOW, gguf.mlp(), fixed(attention_bias=True)),
        names=_DENSE,
    ),
    "qwen3": Family(
        parts=(*gguf.COMMON, gguf.WINDOW, gguf.mlp(), fixed(qk_norm=True)),
        names=_DENSE,
    ),
    "qwen3moe": Family(
        parts=(*gguf.COMMON, gguf.WINDOW, gguf.mlp(), fixed(qk_norm=True)),
        names=_MOE,
    ),
    "olmo2": Family(
        parts=(*gguf.COMMON, gguf.mlp(), _OLMO_NORMS, fixed(norm_placement="post")),
        names={GatedMLP: names.GGUF_OLMO2},
        assumed=_square,
    ),
    "olmoe": Family(
        parts=(*gguf.COMMON, gguf.mlp(renormalize=False), _OLMO_NORMS),
        names=_MOE,
        assumed=_one_to_one,
    ),
    "gemma": Family(
        parts=(
            *(*gguf.COMMON, gguf.mlp(act="gelu")),
            part.embedding_scale("embedding_length"),
        ),
        names=_DENSE,
        # Its converter adds one to the scales of norms, as llama.cpp adds none.
        says=frozenset({"embedding_scale"}),
        assumed=_tied,
    ),
    "gemma2": Family(
        parts=(
            *(*gguf.SIZES, gguf_window.windows(2), gguf.mlp(act="gelu")),
            part.embedding_scale("embedding_length"),
            gguf_window.query_scale(_GEMMA_2),
            gguf.optional("attn_logit_softcapping", "attention_soft_cap", absent=50.0),
            gguf.optional("final_logit_softcapping", "logit_soft_cap", absent=30.0),
            fixed(norm_placement="both"),
        ),
        names={GatedMLP: names.GGUF_GEMMA_2},
        says=frozenset({"embedding_scale"}),
        assumed=_tied,
        attention_scale=lambda fields: 1 / math.sqrt(_GEMMA_2(fields)),
    ),
    "gemma3": Family(
        parts=(
            *(*gguf.SIZES, gguf_window.windows(6, two_bases=True)),
            *(gguf.mlp(act="gelu"), part.embedding_scale("embedding_length")),
            gguf_window.query_scale(_GEMMA_3),
            gguf.optional("final_logit_softcapping", "logit_soft_cap"),
            fixed(norm_placement="both", qk_norm=True),
        ),
        names={GatedMLP: names.GGUF_GEMMA_2},
        says=frozenset({"embedding_scale"}),
        attention_scale=lambda fields: 1 / math.sqrt(_GEMMA_3(fields)),
    ),
    "smollm3": Family(
        parts=(*gguf.SIZES, gguf_window.SOME_ROTARY, gguf.mlp()),
        names=_DENSE,
        interleaved=True,
    ),
    "phi3": Family(
        parts=(*gguf.sizes(partial=True), gguf_rope.ROPE, gguf.NO_WINDOW, gguf.mlp()),
        names=_DENSE,
        assumed=_square,
        rules=_PHI_3,
    ),
    "granite": Family(
        parts=(
            *(*gguf.COMMON, gguf.mlp()),
            entry("embedding_scale", "embedding_scale", 1.0),
            entry("residual_scale", "residual_scale", 1.0),
            entry("attention.scale", "attention_scale", 1.0),
            entry("logit_scale", "logit_divisor", 1.0),
        ),
        names=_DENSE,
        interleaved=True,
        says=frozenset({"attention_scale", "embedding_scale"}),
    ),
}
_HARMLESS = (
    "context_length",
    "feed_forward_length",  # of a mixture whose experts have a length of their own
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "vocab_size",
)


def read(kind: str, stored: Stored) -> tuple[Fields, names.Names]:
    """Return fields of `Transformer` but the embedding's, and tensor names by role.

    Raises:
      ValueError: for an entry that is not supported.
    """
    family = FAMILIES[kind]
    fields = part.read(family.parts, stored)
    stored.settings.finish(*_HARMLESS)
    stored.unsaid.finish()
    mlp = fields["mlp"].func
    if mlp not in family.names:
        experts = "experts" if mlp is MoE else "no experts"
        stored.settings.refuse(
            "expert_count",
            fields["mlp"].keywords.get("num_experts", 0),
            f"{kind} models with {experts} are not known",
        )
    return fields, family.names[mlp]


def write(kind: str, fields: Mapping[str, Any]) -> Entries:
    """Return the entries for all fields of a model; those that a file has no word for
    are left out.
    """
    return part.write(FAMILIES[kind].parts, fields)
