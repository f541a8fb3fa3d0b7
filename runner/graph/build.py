"""Objects out of a graph, with the place of whatever fails."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import fiddle as fdl
from fiddle import daglish

from runner.errors import UserError
from runner.graph import paths
from runner.graph.describe import ROOT


def job(cfg: fdl.Buildable) -> Any:
    """The root, every node constructed and checked; no data read, no device touched.

    Raises:
      UserError: a required field is missing, a constructor refuses a value
        (`ValueError`), or an object's `check()` does; with the path of the node.
    """
    built = _build(cfg)
    _check(built)
    return built


def _build(cfg: fdl.Buildable) -> Any:
    for node, path in daglish.iterate(cfg):
        if isinstance(node, fdl.Config):
            _refuse_missing(node, daglish.path_str(path))
    try:
        return fdl.build(cfg)
    except (ValueError, UserError) as error:
        raise _placed(cfg, error) from error


def _check(built: Any) -> None:
    """Calls the `check()` of every object that has one: that its files exist, say."""
    for path, value in _walk(built, ""):
        if callable(getattr(value, "check", None)):
            try:
                value.check()
            except (UserError, ValueError) as error:
                raise UserError(f"{path or ROOT}: {error}") from error


def _refuse_missing(node: fdl.Config, path: str) -> None:
    fields = paths.children(node) or {}
    missing = [str(key) for key, c in fields.items() if c.value is paths.UNSET]
    if missing:
        raise UserError(
            f"{path.removeprefix('.') or ROOT} ({paths.kind_of(node)}): "
            f"{', '.join(missing)} must be given"
        )


def _placed(cfg: fdl.Buildable, error: Exception) -> UserError:
    """The constructor's own words after the path that fiddle adds below them."""
    message, _, context = str(error).partition("\n\nFiddle context: ")
    where = re.search(r" at <root>(\S*) with positional", context)
    said = " ".join(message.split())
    if not where:
        return UserError(said)
    path = where[1].removeprefix(".")
    place = paths.find(cfg, path) if path else paths.Place("", cfg, Any)
    return UserError(f"{place.path or ROOT} ({paths.kind_of(place.value)}): {said}")


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not paths.is_node(value) and not isinstance(value, (list, tuple, Mapping)):
        return
    yield path.removeprefix("."), value
    for key, child in (paths.children(value) or {}).items():
        yield from _walk(child.value, path + paths.segment(value, key))
