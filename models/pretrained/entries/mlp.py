"""The part of a layer's second half: a gated feed-forward block, or experts."""

import functools
from collections.abc import Mapping
from typing import Any

from models.mlp import MLP, GatedMLP
from models.moe import MoE
from models.pretrained.entries.part import Entries, Fields, Part
from models.pretrained.entries.settings import Settings

ACTIVATIONS = {  # the first name of each of ours is the one that is written
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu_exact",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
    "gelu_fast": "gelu",
    "quick_gelu": "gelu_sigmoid",
}


def activation(settings: Settings, name: str) -> str:
    """Return our name of a `hidden_act`.

    Raises:
      ValueError: there is none.
    """
    if name not in ACTIVATIONS:
        settings.refuse("hidden_act", name, f"it must be one of {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def hidden_act(activation: str) -> str:
    """Return the `hidden_act` of our name of an activation."""
    return next(name for name, ours in ACTIVATIONS.items() if ours == activation)


def dense(name: str = "hidden_act", *, default: str = "silu", legacy: str = "") -> Part:
    """Return the part of a gated feed-forward block.

    Args:
      name: of the entry for the activation.
      default: the activation where a file names none.
      legacy: a name that has always meant `default`.
    """

    def read(settings: Settings) -> Fields:
        act = settings.take(name, default)
        mlp = functools.partial(
            GatedMLP,
            hidden_dim=settings.take("intermediate_size"),
            activation=activation(settings, default if act == legacy else act),
        )
        return {"mlp": mlp}

    def write(fields: Mapping[str, Any]) -> Entries:
        return {
            "intermediate_size": fields["mlp.hidden_dim"],
            name: hidden_act(fields["mlp.activation"]),
        }

    return Part(read, write)


def plain(
    width: str = "intermediate_size",
    *,
    act: str = "hidden_act",
    default: str,
    bias: str = "",
) -> Part:
    """Return the part of a feed-forward block without gates.

    Args:
      width: of the entry for its width; null is four times the model's.
      act: of the entry for the activation.
      default: the activation where a file names none.
      bias: of the entry that says whether there are biases; "" if there always are.
    """

    def read(settings: Settings) -> Fields:
        mlp = functools.partial(
            MLP,
            hidden_dim=settings.take(width, None),
            activation=activation(settings, settings.take(act, default)),
            bias=settings.take(bias, True) if bias else True,
        )
        return {"mlp": mlp}

    def write(fields: Mapping[str, Any]) -> Entries:
        ours = fields["mlp.activation"]
        named = default if ACTIVATIONS[default] == ours else hidden_act(ours)
        flags = {bias: fields["mlp.bias"]} if bias else {}
        return {width: fields["mlp.hidden_dim"], act: named, **flags}

    return Part(read, write)


def experts(
    *, count: tuple[str, ...], width: str, renormalize: str, shared: str = ""
) -> Part:
    """Return the part of a mixture of experts.

    Args:
      count: names of the entry for the number of experts, the newest first.
      width: name of the entry for an expert's width.
      renormalize: name of the entry for renormalized gates; "" if they always are.
      shared: name of the entry for the width of a gated shared expert; "" for none.
    """

    def read(settings: Settings) -> Fields:
        *newer, oldest = count
        known = [settings.take(name, None) for name in newer]
        num_experts = settings.take(oldest, *(n for n in known[:1] if n is not None))
        mlp = functools.partial(
            MoE,
            num_experts=num_experts,
            hidden_dim=settings.take(width),
            renormalize=settings.take(renormalize, False) if renormalize else True,
            experts_per_token=settings.take("num_experts_per_tok"),
            activation=activation(settings, settings.take("hidden_act", "silu")),
            **(shared_experts(settings, shared, width) if shared else {}),
        )
        return {"mlp": mlp}

    def write(fields: Mapping[str, Any]) -> Entries:
        count_shared = fields["mlp.num_shared_experts"]
        of_shared = {shared: count_shared * fields["mlp.hidden_dim"]} if shared else {}
        gates = {renormalize: fields["mlp.renormalize"]} if renormalize else {}
        return {
            count[0]: fields["mlp.num_experts"],
            width: fields["mlp.hidden_dim"],
            "num_experts_per_tok": fields["mlp.experts_per_token"],
            "hidden_act": hidden_act(fields["mlp.activation"]),
            **gates,
            **of_shared,
        }

    return Part(read, write)


def shared_experts(settings: Settings, name: str, width: str) -> Fields:
    """Return the fields of a gated shared expert, which is as wide as some experts.

    Args:
      settings: of the file.
      name: of the entry for its width.
      width: of the entry for an expert's.

    Raises:
      ValueError: its width is no multiple.
    """
    wide, one = settings.take(name), settings.take(width)
    if one < 1 or wide < 1 or wide % one:
        settings.refuse(name, wide, f"it must be a multiple of {width}, {one}")
    return {"num_shared_experts": wide // one, "shared_gate": True}
