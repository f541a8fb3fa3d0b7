"""Places in a graph: `losses.z_loss.weight`, `losses[2].weight`, `rules['batch']`.

An item of a list is addressed by position or, where every item of the list has a
`name` of its own, by that name.
"""

import dataclasses
import re
import typing
from typing import Any

import fiddle as fdl

from runner.errors import UserError, nearest
from runner.graph import renames
from runner.graph.nodes import UNSET, Child, Key, children, is_node, item_names, kind_of


@dataclasses.dataclass(frozen=True)
class Place:
    """A field or item of a graph.

    Attributes:
      path: its path from the root.
      value: the value there.
      hint: its type annotation.
      key: its key in the parent.
      parent: the place of the object that holds it; None for the root.
    """

    path: str
    value: Any
    hint: Any
    key: Key = ""
    parent: "Place | None" = None

    def set(self, value: Any) -> None:
        """Replace the value in the graph."""
        assert self.parent is not None
        holder = self.parent.value
        if isinstance(holder, tuple):
            items = [*holder]
            items[typing.cast(int, self.key)] = value
            self.parent.set(tuple(items))
        elif isinstance(holder, fdl.Buildable) and isinstance(self.key, str):
            setattr(holder, self.key, value)
        else:
            typing.cast(Any, holder)[self.key] = value

    def drop(self) -> None:
        """Take this item out of the list or tuple that holds it."""
        assert self.parent is not None
        holder = self.parent.value
        items = [item for i, item in enumerate(holder) if i != self.key]
        self.parent.set(type(holder)(items))


def segment(value: Any, key: Key) -> str:
    """Return the part of a path for `key` of `value`: `.name`, `[0]` or `['a b']`."""
    names = item_names(value)
    if names and isinstance(key, int):
        return "." + names[key]
    if isinstance(key, str) and key.isidentifier():
        return "." + key
    return f"[{key!r}]"


def find(cfg: fdl.Buildable, path: str) -> Place:
    """Return the place at `path`; objects on the way to it become nodes.

    Raises:
      UserError: there is none; the message has the valid names and the nearest.
    """
    place = Place("", cfg, Any)
    for key in parse(path):
        place = _as_node(place)
        place = _step(place, key)
    return place


def parse(path: str) -> list[Key]:
    """Return the keys of a path.

    Raises:
      UserError: it is not a path.
    """
    pattern = r"\.(\w+)|\[(-?\d+)\]|\[(?:'([^']*)'|\"([^\"]*)\")\]"
    dotted = path if path.startswith("[") else "." + path
    keys: list[Key] = []
    position = 0
    while match := re.compile(pattern).match(dotted, position):
        name, index, *quoted = match.groups()
        keys.append(int(index) if index else next(k for k in [name, *quoted] if k))
        position = match.end()
    if position != len(dotted) or not keys:
        raise UserError(
            f"'{path}' is no path; expected names and indices, as in losses[0].weight"
        )
    return keys


def _step(place: Place, key: Key) -> Place:
    value, here = place.value, place.path or "the graph"
    if value is UNSET:
        raise UserError(f"{here} is not set, so it has no '{key}' to set")
    fields = children(value, place.hint)
    if fields is None:
        raise UserError(f"{here} is {value!r} ({type(value).__name__}), without fields")
    # Items of a list go by their `name` too, or count from the end.
    index = key
    names = item_names(value)
    if isinstance(key, str) and isinstance(value, (list, tuple)):
        index = names.index(key) if names and key in names else None
    elif isinstance(key, int) and key < 0 and isinstance(value, (list, tuple)):
        index = len(value) + key
    if index not in fields:
        raise UserError(_no_such_field(place, key, fields, names))
    path = f"{place.path}{segment(value, index)}".removeprefix(".")
    return Place(path, fields[index].value, fields[index].hint, index, place)


def _no_such_field(
    place: Place, key: Key, fields: dict[Key, Child], names: list[str] | None
) -> str:
    value, here = place.value, place.path or "the graph"
    if isinstance(value, (list, tuple)):
        if isinstance(key, int) or not names:
            some = f"0 to {len(value) - 1}" if value else "none"
            return f"{here} has no item [{key}]; valid indices: {some}"
        return f"{here} has no item '{key}'{nearest(key, names)}"
    kind = kind_of(value)
    cls = fdl.get_callable(value) if isinstance(value, fdl.Buildable) else type(value)
    new = renames.field(cls, str(key))
    hint = f"; it is now '{new}'" if new != key else nearest(str(key), map(str, fields))
    return f"{here} ({kind}) has no field '{key}'{hint}"


def _as_node(place: Place) -> Place:
    """Replace an object or a class in the graph by a node that builds it."""
    value = place.value
    if isinstance(value, (fdl.Buildable, type(None))):
        return place
    if is_node(value):
        fields = {
            str(key): child.value for key, child in (children(value) or {}).items()
        }
        node = fdl.Config(type(value), **fields)
    elif isinstance(value, type):
        node = fdl.Partial(value)
    else:
        return place
    place.set(node)
    return dataclasses.replace(place, value=node)
