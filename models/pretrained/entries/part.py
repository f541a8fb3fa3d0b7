"""Correspondence of a file's entries and the fields of `Transformer`, in both ways.

A family of models is a sequence of parts. They are read into fields as `Transformer`
takes them, and written from fields as `pretrained.writing.description` has them: all of
them, those of `mlp` under dotted names.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Fields = dict[str, Any]
Entries = dict[str, Any]


class Takes(Protocol):
    """Entries of a file, as `Settings` has them."""

    def take(self, name: str, *default: Any, absent: Any = None) -> Any:
        """Return the value of an entry; the default for null."""
        ...

    def demand(self, name: str, *supported: Any) -> None:
        """Refuse an entry unless it is absent, null or one of `supported`."""
        ...


def _nothing(fields: Mapping[str, Any]) -> Entries:
    """Return no entry: the fields go with the family."""
    del fields
    return {}


@dataclasses.dataclass(frozen=True)
class Part:
    """Some entries, and the fields that they determine.

    Attributes:
      read: the fields, of the entries of a file.
      write: the entries, of all fields of a model; those that a family fixes have
        none. They say what the model does only if `read` gives the fields back.
    """

    read: Callable[[Any], Fields]
    write: Callable[[Mapping[str, Any]], Entries] = _nothing


def entry(name: str, field: str, *default: Any, absent: Any = None) -> Part:
    """Return the part of an entry that is a field; arguments are those of `take`."""
    return Part(
        read=lambda settings: {field: settings.take(name, *default, absent=absent)},
        write=lambda fields: {name: fields[field]},
    )


def fixed(**fields: Any) -> Part:
    """Return the part of fields that go with the family; no entry says them."""
    return Part(read=lambda settings: dict(fields))


def demanded(name: str, *supported: Any) -> Part:
    """Return the part of an entry that may have these values alone, or be absent."""

    def read(settings: Takes) -> Fields:
        settings.demand(name, *supported)
        return {}

    return Part(read=read)


def embedding_scale(name: str) -> Part:
    """Return the part of embeddings times the root of their width, as Gemma has them.

    Args:
      name: of the entry for the width.
    """
    return Part(
        read=lambda settings: {"embedding_scale": math.sqrt(settings.take(name))}
    )


def root(name: str, field: str, *, absent: int) -> Part:
    """Return the part of a field that is one over the root of an integer entry."""

    def read(settings: Takes) -> Fields:
        return {field: settings.take(name, absent=absent) ** -0.5}

    return Part(read, lambda fields: {name: round(fields[field] ** -2)})


def ignored(name: str) -> Part:
    """Return the part of an entry that changes no logit in this family."""

    def read(settings: Takes) -> Fields:
        settings.take(name, None)
        return {}

    return Part(read=read)


def read(parts: Sequence[Part], settings: Any) -> Fields:
    """Return the fields of all parts; of two with one name the later counts."""
    fields: Fields = {}
    for part in parts:
        fields |= part.read(settings)
    return fields


def write(parts: Sequence[Part], fields: Mapping[str, Any]) -> Entries:
    """Return the entries of all parts."""
    entries: Entries = {}
    for part in parts:
        entries |= part.write(fields)
    return entries
