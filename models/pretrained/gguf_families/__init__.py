"""Families of models in `.gguf` files, by `general.architecture`."""

from collections.abc import Mapping
from typing import Any

from models.moe import MoE
from models.pretrained.entries import part
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.part import Entries, Fields
from models.pretrained.gguf_families import (
    deepseek,
    gemma,
    gpt,
    gpt_oss,
    llama,
    small,
)
from models.pretrained.gguf_families.family import Family
from models.pretrained.tensors import names

FAMILIES: dict[str, Family] = {
    **llama.FAMILIES,
    **gemma.FAMILIES,
    **small.FAMILIES,
    **gpt.FAMILIES,
    **gpt_oss.FAMILIES,
    **deepseek.FAMILIES,
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
