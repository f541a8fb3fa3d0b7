"""Changes to a graph from the command line, applied strictly left to right."""

import collections.abc
import dataclasses
import importlib
import types
from typing import Any

import fiddle as fdl
from fiddle import daglish

from runner.errors import UserError, nearest
from runner.graph import expressions, literals, nodes, paths, source
from runner.graph.namespace import Namespace


@dataclasses.dataclass(frozen=True)
class Set:
    """`--fdl.path=value`."""

    path: str
    value: str


@dataclasses.dataclass(frozen=True)
class Append:
    """`--fdl.path+=value`: one more item of a list."""

    path: str
    value: str


@dataclasses.dataclass(frozen=True)
class SetTag:
    """`--fdl_tag.Name=value`: every field that carries the tag."""

    name: str
    value: str


@dataclasses.dataclass(frozen=True)
class Fiddle:
    """`--fiddler=name(...)`: a function of the config file, or `path.py:name(...)`.

    A name that the config file lacks may be one of `SHARED`.
    """

    expression: str


Override = Set | Append | SetTag | Fiddle
SHARED = "runner.cli.fiddlers"
"""Module of the functions that serve every graph; it stands above this one."""


def apply(
    cfg: fdl.Buildable,
    overrides: collections.abc.Sequence[Override],
    *,
    module: types.ModuleType | None = None,
) -> fdl.Buildable:
    """Return a changed copy of `cfg`.

    Args:
      cfg: the graph.
      overrides: the changes, in order.
      module: the config file that defines the fiddlers; its names come first in values.

    Raises:
      UserError: an override names nothing, or gives a value of the wrong type.
    """
    cfg, namespace = _copy(cfg), Namespace(module)
    nodes.add_tags(cfg)
    for override in overrides:
        match override:
            case Set(path, value):
                set_path(cfg, path, value, namespace)
            case Append(path, value):
                append(cfg, path, value, namespace)
            case SetTag(name, value):
                set_tag(cfg, name, value)
            case Fiddle(expression):
                cfg = fiddle(cfg, expression, module)
        nodes.add_tags(cfg)
    return cfg


def set_path(
    cfg: fdl.Buildable, path: str, text: str, namespace: Namespace | None = None
) -> None:
    """Set one field from the text of its value; None drops an item of a list."""
    try:
        place = paths.find(cfg, path)
        if text == "None" and _is_item(place) and not literals.takes_none(place.hint):
            return place.drop()
        value = expressions.read(text, place.hint, namespace or Namespace())
        if isinstance(value, str) and nodes.is_node(place.value):  # in quotes
            value = expressions.read(value, place.hint, namespace or Namespace())
        _refuse_untyped_node(place, value)
        place.set(value)
    except (UserError, literals.Mismatch) as error:
        raise UserError(f"--fdl.{path}={text}: {error}") from None


def append(
    cfg: fdl.Buildable, path: str, text: str, namespace: Namespace | None = None
) -> None:
    """Append one item, from its text, to a list."""
    try:
        place = paths.find(cfg, path)
        if not isinstance(place.value, (list, tuple)):
            raise UserError(f"is no list; expected --fdl.{path}=VALUE")
        hint = nodes.item_hint(place.hint)
        item = expressions.read(text, hint, namespace or Namespace())
        place.set(type(place.value)([*place.value, item]))
    except (UserError, literals.Mismatch) as error:
        raise UserError(f"--fdl.{path}+={text}: {error}") from None


def set_tag(cfg: fdl.Buildable, name: str, text: str) -> None:
    """Set every field that carries the tag (or one derived from it)."""
    flag = f"--fdl_tag.{name}={text}"
    # Fields by tag, base tags included.
    fields = [
        (node, field, tag)
        for node, _ in daglish.iterate(cfg)
        if isinstance(node, fdl.Buildable)
        for field, tags in node.__argument_tags__.items()
        for tag in {base for t in tags for base in _lineage(t)}
    ]
    # The one tag of this name; short names may be ambiguous.
    matches = {tag for _, _, tag in fields if _is_called(tag, name)}
    if not matches:
        names = {tag.__name__ for _, _, tag in fields}
        none = nearest(name, names) if names else "; it has none"
        raise UserError(f"{flag}: no field of the graph has the tag '{name}'{none}")
    if len(matches) > 1:
        full = ", ".join(sorted(tag.name for tag in matches))
        raise UserError(f"{flag}: several tags have this name; one of: {full}")
    # The value, read against the type of each field.
    for node, field, tag in fields:
        if tag in matches:
            hint = (nodes.children(node) or {})[field].hint
            try:
                setattr(node, str(field), literals.read(text, hint))
            except literals.Mismatch as error:
                raise UserError(
                    f"{flag}: {nodes.kind_of(node)}.{field}: {error}"
                ) from None


def fiddle(
    cfg: fdl.Buildable, expression: str, module: types.ModuleType | None
) -> fdl.Buildable:
    """Return the result of `name(cfg, ...)`, or the changed `cfg` if that is None."""
    flag = f"--fiddler={expression}"
    try:
        file, rest = source.split(expression)
        if rest:
            module, expression = source.load(file), rest
        call = source.Call.parse(expression)
        if not rest and call.name not in vars(module or types):
            module = _shared(call.name) or module
        if module is None:
            raise UserError(
                f"functions stand in a config file: write path.py:{expression}"
            )
        function = source.find(module, call.name, what="function")
        result = source.call(module, function, cfg, call=call)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None
    # Most change the graph in place; one may return another.
    if result is None:
        return cfg
    if not isinstance(result, fdl.Buildable):
        kind = type(result).__name__
        raise UserError(f"{flag}: expected a graph or None back, got {kind}")
    return result


def _shared(name: str) -> types.ModuleType | None:
    """Return the module of functions for every graph, if it defines this one."""
    module = importlib.import_module(SHARED)
    function = vars(module).get(name)
    return module if getattr(function, "__module__", None) == SHARED else None


def _copy(cfg: fdl.Buildable) -> fdl.Buildable:
    """Nodes and containers anew, leaves the same: a copied function is another one."""

    def visit(value: Any, state: daglish.State) -> Any:
        return state.map_children(value) if state.is_traversable(value) else value

    return daglish.MemoizedTraversal.run(visit, cfg)


def _is_item(place: paths.Place) -> bool:
    return place.parent is not None and isinstance(place.parent.value, (list, tuple))


def _refuse_untyped_node(place: paths.Place, value: Any) -> None:
    """Refuse a literal for a node whose field has no type; None is allowed."""
    if value is None or nodes.is_node(value):
        return
    if place.hint in (Any, object) and nodes.is_node(place.value):
        kind = nodes.kind_of(place.value)
        raise UserError(f"is a {kind}; set one of its fields: {_fields(place)}")


def _fields(place: paths.Place) -> str:
    names = [str(key) for key in nodes.children(place.value) or {}]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _lineage(tag: Any) -> list[Any]:
    return [t for t in tag.__mro__ if issubclass(t, fdl.Tag) and t is not fdl.Tag]


def _is_called(tag: Any, name: str) -> bool:
    return name == tag.name or tag.name.endswith("." + name)
