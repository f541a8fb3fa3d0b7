"""Choice of the published family that says exactly what a model does."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models import rope_scaling
from models.pretrained import families, gguf_families
from models.pretrained.entries.settings import Settings
from models.pretrained.unsaid import Unsaid
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
    folded = folding.fold(describe(model))
    candidates = {
        name: functools.partial(_through_config, name, folded.fields)
        for name, family in families.FAMILIES.items()
        if family.mlp is folded.fields["mlp"]
    }
    family = _choose(folded.fields, candidates, "config.json")
    return Choice(family, folded.fields, folded.changes, folded.settings)


def for_gguf(model: Callable[..., Any]) -> Choice:
    """Choose a `general.architecture` of `.gguf` files.

    Raises:
      ValueError: none fits, or a file of it cannot say what the model does.
    """
    folded = folding.fold(describe(model))
    fields = dict(folded.fields)
    factors = gguf_families.rope_factors(fields)
    if factors is not None:  # the one form in which a file has them
        per_frequency = rope_scaling.PerFrequency(factors=tuple(factors.tolist()))
        fields["rope_scaling"] = per_frequency
    candidates = {
        name: functools.partial(_through_gguf, name, fields)
        for name, family in gguf_families.FAMILIES.items()
        if fields["mlp"] in family.names
    }
    family = _choose(fields, candidates, ".gguf files")
    return Choice(family, fields, folded.changes, folded.settings)


def _through_config(name: str, fields: Mapping[str, Any]) -> Fields:
    """Return the description that a reader of the written entries has."""
    entries = Settings(Path("config.json"), families.write(name, fields))
    return describe(functools.partial(Transformer, **families.read(entries)[0]))


def _through_gguf(name: str, fields: Mapping[str, Any]) -> Fields:
    file = Path(".gguf")
    stored = gguf_families.Stored(
        settings=Settings(file, gguf_families.write(fields)),
        unsaid=Unsaid(file, {}),
        family=name,
        rope_factors=gguf_families.rope_factors(fields),
    )
    of_tensors = {name: fields[name] for name in ("vocab_size", "tie_head")}
    read = gguf_families.read(stored)[0]
    return describe(functools.partial(Transformer, **read, **of_tensors))


def _choose(
    ours: Mapping[str, Any], candidates: Mapping[str, Callable[[], Fields]], what: str
) -> str:
    """Return the first candidate that reads back as `ours`."""
    nearest: tuple[str, Fields, list[str]] | None = None
    for name, read in candidates.items():
        theirs = read()
        fields = differences(ours, theirs)
        if not fields:
            return name
        if nearest is None or len(fields) < len(nearest[2]):
            nearest = name, theirs, fields
    assert nearest is not None  # there is a family for every kind of layer
    name, theirs, fields = nearest
    values = " and ".join(f"{field}={ours[field]!r}" for field in fields)
    others = " and ".join(repr(theirs[field]) for field in fields)
    raise ValueError(
        f"no family of {what} has {values}; the nearest, {name}, has {others}"
    )
