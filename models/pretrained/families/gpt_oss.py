"""gpt-oss: sinks, biases everywhere, windows of every other layer, clamped experts."""

import functools
from collections.abc import Mapping
from typing import Any

from models.moe import MoE
from models.pretrained.entries import part, window
from models.pretrained.entries.part import Entries, Fields, Part, demanded, entry, fixed
from models.pretrained.entries.settings import Settings
from models.pretrained.families.family import OPTIONAL_GROUPED, SIZES, TIED, Family
from models.pretrained.tensors import fusing, names
from models.pretrained.tensors.mxfp4 import Packed


def _read_experts(settings: Settings) -> Fields:
    settings.demand("swiglu_alpha", 1.702)
    mlp = functools.partial(
        MoE,
        num_experts=settings.take("num_local_experts"),
        hidden_dim=settings.take("intermediate_size"),
        experts_per_token=settings.take("num_experts_per_tok"),
        activation="gelu_sigmoid",
        biases=True,
        clamp=settings.take("swiglu_limit", 7.0),
        renormalize=True,
    )
    return {"mlp": mlp}


def _write_experts(fields: Mapping[str, Any]) -> Entries:
    return {
        "num_local_experts": fields["mlp.num_experts"],
        "intermediate_size": fields["mlp.hidden_dim"],
        "num_experts_per_tok": fields["mlp.experts_per_token"],
        "swiglu_limit": fields["mlp.clamp"],
    }


_EXPERTS = "mlp.experts."
FAMILIES = {
    "gpt_oss": Family(
        parts=(
            *(*SIZES, OPTIONAL_GROUPED, TIED, window.GPT_OSS),
            entry("head_dim", "head_dim", None, absent=64),
            entry("rms_norm_eps", "norm_eps", absent=1e-5),
            demanded("attention_bias", True),
            part.ignored("hidden_act"),  # its gates have one of their own
            part.ignored("initial_context_length"),  # as in `rope_parameters`
            part.ignored("experts_per_token"),  # as `num_experts_per_tok`
            Part(_read_experts, _write_experts),
            fixed(
                attention_bias=True, attention_output_bias=True, attention_sinks=True
            ),
        ),
        names=names.GPT_OSS,
        architecture="GptOssForCausalLM",
        mlp=MoE,
        rules=(
            *(Packed(whole=f"{_EXPERTS}{name}_proj") for name in ("gate_up", "down")),
            *(
                fusing.Transposed(whole=f"{_EXPERTS}{name}_proj")
                for name in ("gate_up", "down")
            ),
            *(
                fusing.Fusion(
                    whole=f"{_EXPERTS}gate_up_proj{kind}",
                    parts=(f"{_EXPERTS}gate_proj{kind}", f"{_EXPERTS}up_proj{kind}"),
                    shares=fusing.halves,
                    groups=None,
                    axis=1,
                )
                for kind in ("", "_bias")
            ),
        ),
        reads=frozenset({"mxfp4"}),
    ),
}
