"""Differences of graphs across versions: nodes have gained fields, strings spaces."""

import re
from collections.abc import Iterator
from typing import Any

from runner.graph import describe, nodes, renames


def changes(began: str, now: str) -> list[str]:
    """Return the lines that differ between a run's graph and today's.

    A field that its node did not have when the run began is no difference while it has
    its default.

    Args:
      began: The graph as it was described then, under the names of then.
      now: The graph as it is described now.
    """
    old = _lines(renames.in_text(began))
    new = _lines(now)
    for path in set(new) - set(old):
        holder, _, name = path.rpartition(".")
        holder = holder or describe.ROOT
        if holder in old and old[holder] == new.get(holder):
            unchanged = _default_lines(new[holder], path, name)
            inside = {p: new[p] for p in new if re.match(re.escape(path) + r"\b", p)}
            if unchanged == inside:
                new = {p: text for p, text in new.items() if p not in inside}
    return describe.changes(_text(old), _text(new))


def with_spaces(began: str, saved: Any) -> str:
    """Return a graph's text with the spaces that its strings had.

    Each run of spaces in a string was one in `config.txt` once; never in `config.json`.

    Args:
      began: `config.txt` of a run.
      saved: its `config.json`, parsed.
    """
    for string in _spaced(saved):
        exact = repr(string)
        if exact not in began:  # a text of today has it
            began = began.replace(" ".join(exact.split()), exact)
    return began


def _spaced(value: Any) -> Iterator[str]:
    """Yield the strings that hold a run of spaces."""
    match value:
        case str() if "  " in value:
            yield value
        case list():
            for item in value:
                yield from _spaced(item)
        case dict():
            for item in value.values():
                yield from _spaced(item)


def _default_lines(head: str, path: str, name: str) -> dict[str, str]:
    """Return the lines at `path` of the default of a node's field `name`."""
    cls = renames.named_class(head)
    if cls is None:
        return {}
    value = nodes.defaults(cls).get(name, nodes.UNSET)
    return {} if value is nodes.UNSET else describe.lines(value, path)


def _lines(described: str) -> dict[str, str]:
    pairs = (line.partition(": ") for line in described.splitlines() if line)
    return {path: text for path, _, text in pairs}


def _text(lines: dict[str, str]) -> str:
    return "".join(f"{path}: {text}\n" for path, text in lines.items())
