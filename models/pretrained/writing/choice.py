"""Choice of the published family that says exactly what a model does."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models import rope_scaling
from models.pretrained import families, gguf_families
from models.pretrained.entries import gguf_rope
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.settings import Settings
from models.pretrained.entries.unsaid import Unsaid
from models.pretrained.writing import folding
from models.pretrained.writing.description import Fields, describe, differences
from models.pretrained.writing.tensors import Changes
from models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Choice:
    """A model as a format says it.

    Attributes:
      family: a key of `families.FAMILIES` or `gguf_families.FAMILIES`.
      fields: of the model, as `description.describe` has them.
      changes: that the parameters need first, by role.
      folded: settings that went into them, for people.
    """

    family: str
    fields: Mapping[str, Any]
    changes: Changes
    folded: tuple[str, ...]


def for_folder(model: Callable[..., Any]) -> Choice:
    """Choose a `model_type` of `config.json`.

    Raises:
      ValueError: no family fits; with the setting that none has, and the nearest.
    """
    fields = describe(model)
    candidates = {
        name: folding.fold(fields, keep=family.says)
        for name, family in families.FAMILIES.items()
        if family.mlp is fields["mlp"]
    }
    return _choose(candidates, _through_config, "config.json")


def for_gguf(model: Callable[..., Any]) -> Choice:
    """Choose a `general.architecture` of `.gguf` files.

    Raises:
      ValueError: none fits, or a file of it cannot say what the model does.
    """
    fields = describe(model)
    factors = gguf_rope.factors(fields)
    if factors is not None:  # the one form in which a file has them
        per_frequency = rope_scaling.PerFrequency(factors=tuple(factors.tolist()))
        fields["rope_scaling"] = per_frequency
    long = gguf_rope.long_factors(fields)
    if long is not None:  # as it is rounded there
        short, long = (tuple(part.tolist()) for part in long)
        scaling = fields["rope_scaling"]
        fields["rope_scaling"] = dataclasses.replace(scaling, short=short, long=long)
    candidates = {
        name: folding.fold(
            fields,
            keep=family.says,
            attention_scale=family.attention_scale(fields),
            interleave_latents=family.interleaves_latents,
        )
        for name, family in gguf_families.FAMILIES.items()
        if fields["mlp"] in family.names
    }
    choice = _choose(candidates, _through_gguf, ".gguf files")
    gguf_families.FAMILIES[choice.family].check(choice.fields)
    return choice


def _through_config(name: str, fields: Mapping[str, Any]) -> Fields:
    """Return the description that a reader of the written entries has."""
    entries = Settings(Path("config.json"), families.write(name, fields))
    return describe(functools.partial(Transformer, **families.read(entries)[0]))


def _through_gguf(name: str, fields: Mapping[str, Any]) -> Fields:
    """Return the description that llama.cpp has of the written file."""
    file, family = Path(".gguf"), gguf_families.FAMILIES[name]
    stored = Stored(
        settings=Settings(file, gguf_families.write(name, fields)),
        unsaid=Unsaid(file, {}),
        rope_factors=gguf_rope.factors(fields) if family.rope_factors else None,
        long_rope=gguf_rope.long_factors(fields) if family.long_rope else None,
    )
    of_tensors = {name: fields[name] for name in ("vocab_size", "tie_head")}
    read = gguf_families.read(name, stored)[0]
    theirs = describe(functools.partial(Transformer, **read, **of_tensors))
    return {**theirs, **family.assumed(fields)}


def _choose(
    candidates: Mapping[str, folding.Folded],
    through: Callable[[str, Mapping[str, Any]], Fields],
    what: str,
) -> Choice:
    """Return the first family that reads back as it was written.

    Args:
      candidates: the model as each family would have it.
      through: what a reader of that family makes of it.
      what: the format, for people.
    """
    nearest: tuple[str, Fields, list[str]] | None = None
    refused = ValueError("there is none for such layers")
    for name, folded in candidates.items():
        try:
            theirs = through(name, folded.fields)
        except ValueError as error:  # the family has no word for it at all
            refused = error
            continue
        fields = differences(folded.fields, theirs)
        if not fields:
            return Choice(name, folded.fields, folded.changes, folded.settings)
        if nearest is None or len(fields) < len(nearest[2]):
            nearest = name, theirs, fields
    if nearest is None:
        raise ValueError(f"no family of {what} fits: {refused}") from refused
    name, theirs, fields = nearest
    ours = candidates[name].fields
    fields = [field for field in fields if field in theirs]
    values = " and ".join(f"{field}={ours[field]!r}" for field in fields)
    others = " and ".join(repr(theirs[field]) for field in fields)
    raise ValueError(
        f"no family of {what} has {values}; the nearest, {name}, has {others}"
    )
