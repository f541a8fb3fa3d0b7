"""Parts of families in `.gguf` files: entries by their names after the family's."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from models.mlp import MLP, GatedMLP
from models.moe import MoE
from models.pretrained.entries.gguf_rope import ROPE
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.mlp import activation, shared_experts
from models.pretrained.entries.part import Entries, Fields, Part, entry


def _read_heads(stored: Stored, *, partial: bool) -> Fields:
    dim = stored.take("embedding_length")
    heads = stored.take("attention.head_count")
    kv_heads = stored.take("attention.head_count_kv", heads)
    for name, value in [("head_count", heads), ("head_count_kv", kv_heads)]:
        if isinstance(value, list):
            stored.settings.refuse(f"attention.{name}", value, "it must be one number")
    head_dim = stored.take("attention.key_length", dim // heads)
    stored.settings.demand("attention.value_length", head_dim)
    sizes = {"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim}
    if not partial:
        stored.settings.demand("rope.dimension_count", head_dim)
        return sizes
    return {**sizes, "rope_dim": stored.take("rope.dimension_count", head_dim)}


def _write_heads(fields: Mapping[str, Any]) -> Entries:
    head_dim = fields["head_dim"]
    return {
        "attention.head_count": fields["num_heads"],
        "attention.head_count_kv": fields["num_kv_heads"],
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": fields["rope_dim"] or head_dim,
    }


def _read_window(stored: Stored) -> Fields:
    window = stored.take("attention.sliding_window", None)
    window = stored.unsaid.take("sliding_window", window)
    return {"attention_window": window or None}


def optional(name: str, field: str, *, absent: Any = None) -> Part:
    """Return the part of an entry that is left out for None.

    Args:
      name: of the entry.
      field: its field.
      absent: what llama.cpp takes for an absent entry.
    """

    def write(fields: Mapping[str, Any]) -> Entries:
        return {} if fields[field] is None else {name: fields[field]}

    return Part(lambda stored: {field: stored.take(name, None, absent=absent)}, write)


def mlp(
    *, act: str | None = None, renormalize: bool | None = None, shared: bool = False
) -> Part:
    """Return the part of a layer's second half.

    Args:
      act: our name of the activation; None where a file leaves it out, and llama.cpp
        assumes silu.
      renormalize: gates sum to one; None where a file leaves that out, and llama.cpp
        assumes that they do.
      shared: there is a gated shared expert.
    """
    read = functools.partial(_read_mlp, act=act, renormalize=renormalize, shared=shared)
    return Part(read, functools.partial(_write_mlp, shared=shared))


def plain(act: str) -> Part:
    """Return the part of a feed-forward block without gates, with biases.

    Args:
      act: the `hidden_act` that llama.cpp assumes.
    """

    def read(stored: Stored) -> Fields:
        name = stored.unsaid.take("hidden_act", default=act)
        mlp = functools.partial(
            MLP,
            hidden_dim=stored.take("feed_forward_length"),
            activation=activation(stored.settings, name),
            bias=True,
        )
        return {"mlp": mlp}

    return Part(read, _write_mlp)


def _read_mlp(
    stored: Stored, *, act: str | None, renormalize: bool | None, shared: bool
) -> Fields:
    experts = stored.take("expert_count", 0)
    if act is None:
        act = activation(stored.settings, stored.unsaid.take("hidden_act"))
    if not experts:
        width = stored.take("feed_forward_length")
        return {"mlp": functools.partial(GatedMLP, hidden_dim=width, activation=act)}
    unsaid = renormalize is None
    gates = stored.unsaid.take("norm_topk_prob") if unsaid else renormalize
    length = stored.take("expert_feed_forward_length", None)
    extra = {}
    if shared:
        name, width = "expert_shared_feed_forward_length", "expert_feed_forward_length"
        extra = shared_experts(stored.settings, name, width)
    experts_of = functools.partial(
        MoE,
        num_experts=experts,
        experts_per_token=stored.take("expert_used_count"),
        hidden_dim=length or stored.take("feed_forward_length"),
        activation=act,
        renormalize=gates,
        **extra,
    )
    return {"mlp": experts_of}


def _write_mlp(fields: Mapping[str, Any], *, shared: bool = False) -> Entries:
    width = fields["mlp.hidden_dim"]
    if fields["mlp"] is not MoE:
        return {"feed_forward_length": width}
    extra = {}
    if shared:
        of_shared = fields["mlp.num_shared_experts"] * width
        extra = {"expert_shared_feed_forward_length": of_shared}
    return {
        "expert_count": fields["mlp.num_experts"],
        "expert_used_count": fields["mlp.experts_per_token"],
        "feed_forward_length": width,  # which llama.cpp wants of every model
        "expert_feed_forward_length": width,
        **extra,
    }


def sizes(
    *, partial: bool = False, epsilon: str = "attention.layer_norm_rms_epsilon"
) -> Sequence[Part]:
    """Return the parts of sizes and of the norms' epsilon.

    Args:
      partial: whether llama.cpp rotates some features of a head alone.
      epsilon: the entry for the norms'.
    """
    return (
        entry("embedding_length", "dim"),
        entry("block_count", "num_layers"),
        Part(functools.partial(_read_heads, partial=partial), _write_heads),
        entry(epsilon, "norm_eps"),
    )


SIZES = sizes()
COMMON = (*SIZES, ROPE)
WINDOW = Part(_read_window)
"""A window is read, and not written: llama.cpp has none for these architectures."""
NO_WINDOW = Part(_read_window, lambda fields: {"attention.sliding_window": 0})
"""The same where the file has to say that there is none."""
