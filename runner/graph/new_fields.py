"""Differences of graphs across versions, in which nodes have gained fields."""

import re

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
