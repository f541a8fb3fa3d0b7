"""A graph as sorted `path: value` lines, classes and defaults included.

The lines say all that a graph says: two graphs that build different things differ in
a line. A class stands at the path of its node; items of a list stand under their
names; a node that is used twice stands at the first path in the sort order.
"""

import collections.abc
import enum
import functools
import hashlib
import re
from typing import Any

import fiddle as fdl

from runner.graph import nodes, paths
from runner.graph.names import public

ROOT = "<root>"
_DIGITS = "0123456789"


def text(cfg: fdl.Buildable) -> str:
    """Return all lines as one text, with a final newline."""
    return "".join(f"{path}: {value}\n" for path, value in lines(cfg).items())


def lines(cfg: Any, path: str = "") -> dict[str, str]:
    """Return each value, as text, by its path, in path order.

    Args:
      cfg: A graph, or a part of one.
      path: Where it stands.
    """
    values: dict[str, str] = {}
    _collect(cfg, path, values, {})
    return {path: values[path] for path in sorted(values, key=_natural)}


def changes(old: str, new: str) -> list[str]:
    """Return the lines that differ: `- path: old`, `+ path: new`."""
    before, after = _parse(old), _parse(new)
    result = []
    for path in sorted({**before, **after}, key=_natural):
        if before.get(path) != after.get(path):
            result += [f"- {path}: {before[path]}"] if path in before else []
            result += [f"+ {path}: {after[path]}"] if path in after else []
    return result


def _collect(
    value: Any, path: str, values: dict[str, str], first_paths: dict[int, str]
) -> None:
    here = path.removeprefix(".") or ROOT
    if (
        isinstance(value, fdl.Buildable)
        and first_paths.setdefault(id(value), here) != here
    ):
        values[here] = f"-> {first_paths[id(value)]}"
        return
    inner = nodes.children(value) if _has_node(value) else None
    if inner is None:
        values[here] = leaf(value)
        return
    values[here] = _head(value)
    has_names = nodes.item_names(value) is not None
    by_segment = {paths.segment(value, key): inner[key] for key in inner}
    for segment in sorted(by_segment, key=_natural):
        child = by_segment[segment].value
        if child is nodes.UNSET and isinstance(value, fdl.Partial):
            continue  # the caller's to give
        _collect(child, path + segment, values, first_paths)
        if has_names:  # the path says it
            values.pop(f"{path}{segment}.name".removeprefix("."), None)


def _head(value: Any) -> str:
    if isinstance(value, fdl.Buildable):
        name = public(fdl.get_callable(value))
        return f"partial({name})" if isinstance(value, fdl.Partial) else name
    if nodes.is_node(value):
        return public(type(value))
    keys = nodes.item_names(value) or [str(key) for key in nodes.children(value) or {}]
    left, right = {list: "[]", tuple: "()"}.get(type(value), "{}")
    return f"{left}{', '.join(keys)}{right}"


def leaf(value: Any) -> str:
    """Return a value without nodes as text, the same in every process."""
    if value is nodes.UNSET:
        return "(required)"
    if isinstance(value, enum.Enum):
        return f"{public(type(value))}.{value.name}"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        left, right = "[]" if isinstance(value, list) else "()"
        inner = ", ".join(leaf(item) for item in value)
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"{left}{inner}{comma}{right}"
    # Sorted: the order of a set differs from process to process.
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(leaf(item) for item in value)) + "}"
    if isinstance(value, collections.abc.Mapping):
        pairs = (f"{leaf(key)}: {leaf(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if callable(value) and hasattr(value, "__name__"):
        return public(value)
    if isinstance(value, functools.partial):
        arguments = [leaf(item) for item in value.args]
        arguments += [f"{key}={leaf(item)}" for key, item in value.keywords.items()]
        return f"partial({', '.join([leaf(value.func), *arguments])})"
    # An address is another in every process: then the name stands for the object.
    literal = repr(value)
    return public(value) if " at 0x" in literal else " ".join(literal.split())


def _has_node(value: Any) -> bool:
    if nodes.is_node(value):
        return True
    inner = nodes.children(value) or {}
    return any(_has_node(child.value) for child in inner.values())


def _natural(path: str) -> list[tuple[int, int | str]]:
    """Sort key: `[2]` before `[10]`, a node before its fields."""
    if path == ROOT:
        return []
    parts = re.findall(r"[0-9]{1,18}|[^0-9]", path)
    return [(0, int(part)) if part[0] in _DIGITS else (1, part) for part in parts]


def _parse(described: str) -> dict[str, str]:
    pairs = (line.partition(": ") for line in described.splitlines() if line)
    return {path: value for path, _, value in pairs}


def digest(cfg: fdl.Buildable) -> str:
    """16 hex digits, equal exactly when the described lines are (SHA-256)."""
    return hashlib.sha256(text(cfg).encode()).hexdigest()[:16]
