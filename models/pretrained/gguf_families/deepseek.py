"""DeepSeek-V3: latents of keys and values, sigmoid scores of experts in groups."""

import functools
from collections.abc import Mapping
from typing import Any

from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained.entries.gguf_latents import LATENTS
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.mlp import activation
from models.pretrained.entries.part import Entries, Fields, Part, entry
from models.pretrained.gguf_families.family import Family
from models.pretrained.tensors import gguf_names
from models.pretrained.tensors.separate import Separate
from models.routing.scores import Routing

_SCORES = {1: "softmax", 2: "sigmoid"}  # `expert_gating_func`
# llama.cpp knows by these numbers of layers, or by one and the vocabulary, that queries
# are products of the stream itself, and by nothing else.
_PLAIN_QUERIES = (26, 27)
_KANANA = (48, 128_256)


def _read_experts(stored: Stored) -> Fields:
    kind = stored.take("expert_gating_func", None)
    scores = stored.unsaid.take("scoring_func", _SCORES.get(kind, kind))
    if scores != "sigmoid":
        stored.settings.refuse(
            "expert_gating_func",
            kind,
            "it must be 2 (sigmoid), as of DeepSeek-V3; where a file leaves it out, "
            "settings={'scoring_func': 'sigmoid'} says so",
        )
    shared = stored.take("expert_shared_count")
    if shared < 1:
        stored.settings.refuse("expert_shared_count", shared, "there must be one")
    act = activation(stored.settings, stored.unsaid.take("hidden_act"))
    mlp = functools.partial(
        MoE,
        num_experts=stored.take("expert_count"),
        hidden_dim=stored.take("expert_feed_forward_length"),
        experts_per_token=stored.take("expert_used_count"),
        num_shared_experts=shared,
        renormalize=stored.take("expert_weights_norm", False),
        activation=act,
        routing=Routing(
            scores="sigmoid",
            bias=True,
            num_groups=stored.take("expert_group_count", 1),
            groups_per_token=stored.take("expert_group_used_count", 1),
            gate_scale=stored.take("expert_weights_scale", 1.0),
        ),
    )
    width, layers = stored.take("feed_forward_length"), stored.take("block_count")
    first = min(stored.take("leading_dense_block_count", 0), layers)
    if not first:
        return {"mlp": mlp}
    dense = functools.partial(GatedMLP, hidden_dim=width, activation=act)
    return {"mlp": mlp, "first_mlp": dense, "first_layers": first}


def _write_experts(fields: Mapping[str, Any]) -> Entries:
    width = fields["mlp.hidden_dim"]
    return {
        "feed_forward_length": fields.get("first_mlp.hidden_dim", width),
        "leading_dense_block_count": fields["first_layers"],
        "expert_count": fields["mlp.num_experts"],
        "expert_used_count": fields["mlp.experts_per_token"],
        "expert_shared_count": fields["mlp.num_shared_experts"],
        "expert_feed_forward_length": width,
        "expert_gating_func": 2,
        "expert_weights_norm": fields["mlp.renormalize"],
        "expert_weights_scale": fields["mlp.routing.gate_scale"],
        "expert_group_count": fields["mlp.routing.num_groups"],
        "expert_group_used_count": fields["mlp.routing.groups_per_token"],
    }


def _check_queries(fields: Mapping[str, Any]) -> None:
    """Refuse a number of layers by which llama.cpp expects queries of another kind.

    Raises:
      ValueError: with the numbers.

    Source: `is_lite` of `models/deepseek2.cpp` (llama-cpp-python 0.3.36).
    """
    plain, layers = fields["latents"].query_rank is None, fields["num_layers"]
    known = layers in _PLAIN_QUERIES or (layers, fields["vocab_size"]) == _KANANA
    if plain != known:
        raise ValueError(
            "llama.cpp takes queries to be made of the stream itself (query_rank=None) "
            f"in models of {' and '.join(map(str, _PLAIN_QUERIES))} layers, and of a "
            f"latent in others, got query_rank={fields['latents'].query_rank} and "
            f"{layers} layers"
        )


FAMILIES = {
    "deepseek2": Family(
        parts=(
            entry("embedding_length", "dim"),
            entry("block_count", "num_layers"),
            LATENTS,
            Part(_read_experts, _write_experts),
        ),
        names={MoE: gguf_names.DEEPSEEK},
        interleaves_latents=True,
        says=frozenset({"attention_scale", "rope_layout"}),
        check=_check_queries,
        rules=(
            Separate(
                whole="attn_kv_b.weight",
                keys="attn_k_b.weight",
                values="attn_v_b.weight",
            ),
        ),
    ),
}
