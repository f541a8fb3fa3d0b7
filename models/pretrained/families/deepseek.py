"""DeepSeek-V3: latents of keys and values, groups of experts, first layers without."""

import functools
from collections.abc import Mapping
from typing import Any

from models.mlp import GatedMLP
from models.moe import MoE
from models.pretrained.entries import latents, part
from models.pretrained.entries.mlp import activation, hidden_act
from models.pretrained.entries.part import Entries, Fields, Part, demanded
from models.pretrained.entries.settings import Settings
from models.pretrained.families.family import COMMON, Family
from models.pretrained.tensors.deepseek_names import DEEPSEEK
from models.routing.scores import Routing


def _read_experts(settings: Settings) -> Fields:
    act = activation(settings, settings.take("hidden_act", "silu"))
    routing = Routing(
        scores="sigmoid",
        bias=True,
        num_groups=settings.take("n_group", absent=8),
        groups_per_token=settings.take("topk_group", absent=4),
        gate_scale=settings.take("routed_scaling_factor", absent=2.5),
    )
    shared = settings.take("n_shared_experts")
    if shared < 1:
        settings.refuse("n_shared_experts", shared, "there must be one")
    mlp = functools.partial(
        MoE,
        num_experts=settings.take("n_routed_experts"),
        hidden_dim=settings.take("moe_intermediate_size"),
        experts_per_token=settings.take("num_experts_per_tok"),
        num_shared_experts=shared,
        renormalize=settings.take("norm_topk_prob", False, absent=True),
        activation=act,
        routing=routing,
    )
    width = settings.take("intermediate_size")
    layers = settings.take("num_hidden_layers")
    first = min(settings.take("first_k_dense_replace", absent=3), layers)
    if not first:
        return {"mlp": mlp}
    dense = functools.partial(GatedMLP, hidden_dim=width, activation=act)
    return {"mlp": mlp, "first_mlp": dense, "first_layers": first}


def _write_experts(fields: Mapping[str, Any]) -> Entries:
    width = fields.get("first_mlp.hidden_dim", fields["mlp.hidden_dim"])
    return {
        "hidden_act": hidden_act(fields["mlp.activation"]),
        "n_routed_experts": fields["mlp.num_experts"],
        "moe_intermediate_size": fields["mlp.hidden_dim"],
        "num_experts_per_tok": fields["mlp.experts_per_token"],
        "n_shared_experts": fields["mlp.num_shared_experts"],
        "norm_topk_prob": fields["mlp.renormalize"],
        "n_group": fields["mlp.routing.num_groups"],
        "topk_group": fields["mlp.routing.groups_per_token"],
        "routed_scaling_factor": fields["mlp.routing.gate_scale"],
        "intermediate_size": width,
        "first_k_dense_replace": fields["first_layers"],
    }


_LAYERS_BEYOND = ("num_nextn_predict_layers", "num_mtp_layers")  # for drafts
FAMILIES = {
    "deepseek_v3": Family(
        parts=(
            *(*COMMON, latents.LATENTS, latents.ROPE),
            Part(_read_experts, _write_experts),
            demanded("scoring_func", "sigmoid"),
            demanded("topk_method", "noaux_tc"),
            demanded("moe_layer_freq", 1),
            part.ignored("aux_loss_alpha"),  # of training
            part.ignored("seq_aux"),
            part.ignored("ep_size"),  # of a machine
            *(part.ignored(name) for name in _LAYERS_BEYOND),
        ),
        names=DEEPSEEK,
        architecture="DeepseekV3ForCausalLM",
        mlp=MoE,
        says=frozenset({"attention_scale", "rope_layout"}),
        layers_beyond=_LAYERS_BEYOND,
        wide=frozenset({"mlp/bias", "mlp/router"}),
    ),
}
