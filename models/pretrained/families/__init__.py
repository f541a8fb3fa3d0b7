"""Families of published models, by `model_type` of their `config.json`.

Each is a sequence of parts, which turn entries of the file into fields of `Transformer`
and back. An absent entry means what it does to the family's class in transformers
5.24.0; what is written has the form in which 5.24.0 writes it.
"""

from collections.abc import Mapping
from typing import Any

from models.pretrained.entries import harmless, part, refusals
from models.pretrained.entries.part import Entries, Fields
from models.pretrained.entries.settings import Settings
from models.pretrained.families import deepseek, gemma, gpt, gpt_oss, llama, small
from models.pretrained.families.family import Family

FAMILIES: Mapping[str, Family] = {
    **llama.FAMILIES,
    **gemma.FAMILIES,
    **small.FAMILIES,
    **gpt.FAMILIES,
    **gpt_oss.FAMILIES,
    **deepseek.FAMILIES,
}


def read(settings: Settings) -> tuple[Fields, Family, tuple[int, ...]]:
    """Return fields of `Transformer`, the family, and ids that end a text.

    Raises:
      ValueError: for a family or an entry that is not supported.
    """
    kind = settings.take("model_type")
    if kind not in FAMILIES:
        settings.refuse("model_type", kind, refusals.reason(kind, FAMILIES))
    family = FAMILIES[kind]
    for name in ("quantization_config", "quantization"):
        settings.demand_unquantized(name, family.reads)
    fields = part.read(family.parts, settings)
    ends = settings.take("eos_token_id", [])
    settings.finish(*harmless.ENTRIES)
    return fields, family, tuple(ends if isinstance(ends, list) else [ends])


def write(kind: str, fields: Mapping[str, Any]) -> Entries:
    """Return the entries of `config.json` for a model of a family, by `model_type`."""
    family = FAMILIES[kind]
    entries = part.write(family.parts, fields)
    return {"model_type": kind, "architectures": [family.architecture], **entries}
