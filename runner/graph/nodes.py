"""The fields of any kind of node, with defaults and types.

A node is a Config, a Partial, or a dataclass object.
"""

import dataclasses
import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Any

import fiddle as fdl
from fiddle import daglish, signatures

from runner.graph.names import public

UNSET = object()  # a field that must be given and is not
Key = str | int


@dataclasses.dataclass(frozen=True)
class Child:
    """A field or item.

    Attributes:
      value: the value, its default, or `UNSET`.
      hint: its type annotation.
    """

    value: Any
    hint: Any = Any


def is_node(value: Any) -> bool:
    """Return True for a Config, a Partial or a dataclass object."""
    return isinstance(value, fdl.Buildable) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def children(value: Any, hint: Any = Any) -> dict[Key, Child] | None:
    """Return the fields of a node or the items of a list or mapping.

    Defaults are included. None for a leaf.
    """
    if isinstance(value, fdl.Buildable):
        return _arguments(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: Child(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    if isinstance(value, (list, tuple)):
        return {i: Child(item, item_hint(hint)) for i, item in enumerate(value)}
    if isinstance(value, Mapping):
        return {key: Child(item, item_hint(hint)) for key, item in value.items()}
    return None


def item_names(value: Any) -> list[str] | None:
    """Return the names of a list's items if all are distinct, else None."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    names = [_name(item) for item in value]
    distinct = len(set(names)) == len(names)
    return typing.cast(list[str], names) if None not in names and distinct else None


def add_tags(cfg: fdl.Buildable) -> None:
    """Add the tags in annotations of `nnx.Module`s, which fiddle does not see."""
    for node, _ in daglish.iterate(cfg):
        if not isinstance(node, fdl.Buildable):
            continue
        function = fdl.get_callable(node)
        hints = signatures.get_type_hints(function, include_extras=True)
        for name in set(hints) & set(parameters(function)):
            for extra in getattr(hints[name], "__metadata__", ()):
                if isinstance(extra, type) and issubclass(extra, fdl.Tag):
                    fdl.add_tag(node, name, extra)


def kind_of(value: Any) -> str:
    """The public name of what a node makes, or a value's type."""
    if isinstance(value, fdl.Buildable):
        return public(fdl.get_callable(value))
    return public(type(value))


def fields(function: Any) -> dict[Key, Child]:
    """Return the fields of a node of `function` of which none is set."""
    return _arguments(fdl.Partial(function))


def _arguments(node: fdl.Buildable) -> dict[Key, Child]:
    function = fdl.get_callable(node)
    hints = signatures.get_type_hints(function)
    derived = _derived_defaults(function, node.__arguments__)
    fields: dict[Key, Child] = {}
    for name, parameter in parameters(function).items():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            value = node.__arguments__.get(name, _default(function, parameter))
            value = derived.get(name) if value is None else value
            fields[name] = Child(
                value, hints.get(name, _hint(function, parameter, value))
            )
    for key, value in node.__arguments__.items():
        fields.setdefault(key, Child(value))
    return fields


def parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of `function` by name.

    The metaclass of `nnx.Module` hides the constructor's signature from `inspect` and
    so from fiddle, which would then take any name.
    """
    if isinstance(function, type) and type(function).__call__ is not type.__call__:
        own = signatures.get_signature(function.__init__).parameters
        return {name: own[name] for name in list(own)[1:]}
    return signatures.get_signature(function).parameters


def defaults(function: Any) -> dict[str, Any]:
    """Return the default of each parameter by name; UNSET where it has none."""
    fields = parameters(function)
    return {name: _default(function, fields[name]) for name in fields}


def _derived_defaults(function: Any, arguments: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the defaults of a class that depend on its other fields, where it has any.

    Such a class has `derived_defaults(fields)`; its field is None where it is not set.
    """
    derive = getattr(function, "derived_defaults", None)
    if derive is None:
        return {}
    return derive(
        {
            name: fdl.get_callable(value) if isinstance(value, fdl.Buildable) else value
            for name, value in arguments.items()
        }
    )


def _default(function: Any, parameter: inspect.Parameter) -> Any:
    if dataclasses.is_dataclass(function):
        for field in dataclasses.fields(function):
            if (
                field.name == parameter.name
                and field.default_factory is not dataclasses.MISSING
            ):
                return field.default_factory()
    return UNSET if parameter.default is parameter.empty else parameter.default


def _hint(function: Any, parameter: inspect.Parameter, value: Any) -> Any:
    """An annotation that could not be had with its siblings, some of them unknown.

    Without one, the type of the number or string that is there.
    """
    hint = parameter.annotation
    if isinstance(hint, str):
        try:
            # `get_type_hints` fails for all fields of a class if one of them cannot be
            # resolved; this resolves the others, from text of our own source alone.
            return eval(hint, vars(sys.modules[function.__module__]))
        except NameError:  # imported for type checkers alone
            return typing.ForwardRef(hint)
    if hint is not parameter.empty:
        return hint
    if type(value) in (int, float):
        return int | float
    return type(value) if type(value) in (bool, str) else Any


def item_hint(hint: Any) -> Any:
    """Return the type of the items of a list or mapping of type `hint`."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Union or isinstance(hint, type(int | str)):
        inner = [item_hint(option) for option in options if option is not type(None)]
        return inner[0] if len(inner) == 1 else Any
    return (
        options[-1] if options and options[-1] is not Ellipsis else (*options, Any)[0]
    )


def _name(item: Any) -> str | None:
    if isinstance(item, fdl.Buildable):
        name = item.__arguments__.get("name")
    else:
        name = getattr(item, "name", None) if is_node(item) else None
    return name if isinstance(name, str) and name.isidentifier() else None
