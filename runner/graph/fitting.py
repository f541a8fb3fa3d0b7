"""Nodes, functions and classes held against a type annotation."""

import collections.abc
import inspect
import typing
from typing import Any

import fiddle as fdl
from fiddle import signatures

from runner.graph import literals, nodes
from runner.graph.literals import Mismatch
from runner.graph.names import public

_TEXT = (str, bool, int, float, type(None), None)


def takes_anything(hint: Any) -> bool:
    """Return True for a field without a type."""
    return hint in (Any, object, inspect.Parameter.empty)


def takes_text(hint: Any) -> bool:
    """Return True for a field that any text may stand in."""
    return any(option is str or takes_anything(option) for option in _options(hint))


def takes_objects(hint: Any) -> bool:
    """Return True for a field of more than numbers and text."""
    return any(
        option not in _TEXT and typing.get_origin(option) is not typing.Literal
        for option in _options(hint)
    )


def node(value: Any, hint: Any) -> Any:
    """Return the node `value`, if what it builds may stand in a field of type `hint`.

    Raises:
      Mismatch: it may not.
    """
    if not any(_node_fits(value, option) for option in _options(hint)):
        raise Mismatch(f"expected {literals.show(hint)}, got {nodes.kind_of(value)}")
    return value


def named(value: Any, hint: Any) -> Any:
    """Return the function or class `value`, if it may stand in a field of type `hint`.

    Raises:
      Mismatch: it may not, or a call of it was meant.
    """
    options = _options(hint)
    if isinstance(value, type):
        classes = [option for option in options if isinstance(option, type)]
        is_instance = any(_is_subclass(value, option) for option in classes)
        if is_instance and "rngs" not in nodes.parameters(value):
            raise Mismatch(
                f"expected {literals.show(hint)}, got the class itself; "
                f"write {public(value)}(...)"
            )
    if not any(_name_fits(value, option) for option in options):
        raise Mismatch(f"expected {literals.show(hint)}, got {public(value)}")
    return value


def container(value: Any, hint: Any) -> Any:
    """Return a list, tuple, set or dict of nodes, if `hint` is of its kind.

    Raises:
      Mismatch: it is not.
    """
    for option in _options(hint):
        kind = typing.get_origin(option) or option
        if takes_anything(option) or (isinstance(kind, type) and kind is type(value)):
            return value
        if kind is tuple and isinstance(value, list):
            return tuple(value)
        if kind is list and isinstance(value, tuple):
            return list(value)
        if isinstance(kind, type) and issubclass(type(value), kind):
            return value
    raise Mismatch(f"expected {literals.show(hint)}, got a {type(value).__name__}")


def _options(hint: Any) -> list[Any]:
    """Return the types of a union, or the one type."""
    hint = literals.plain(hint)
    if literals.is_union(hint):
        return [o for option in typing.get_args(hint) for o in _options(option)]
    return [hint]


def _node_fits(value: Any, hint: Any) -> bool:
    if takes_anything(hint) or isinstance(hint, (typing.TypeVar, typing.ForwardRef)):
        return True
    function = fdl.get_callable(value)
    makes = result(function)
    if typing.get_origin(hint) is collections.abc.Callable:
        if isinstance(value, fdl.Partial):
            wanted = _options((Any, *typing.get_args(hint))[-1])
            return any(_is_subclass(makes, option) for option in wanted)
        return not isinstance(makes, type) or "__call__" in dir(makes)
    return not isinstance(value, fdl.Partial) and _is_subclass(makes, hint)


def _name_fits(value: Any, hint: Any) -> bool:
    if takes_anything(hint) or isinstance(hint, (typing.TypeVar, typing.ForwardRef)):
        return True
    if typing.get_origin(hint) is collections.abc.Callable:
        if not isinstance(value, type):
            return callable(value)
        wanted = _options((Any, *typing.get_args(hint))[-1])
        return any(_is_subclass(value, option) for option in wanted)
    if typing.get_origin(hint) is type or hint is type:
        return isinstance(value, type)
    try:
        literals.fit(value, hint)
    except Mismatch:
        return False
    return True


def result(function: Any) -> Any:
    """Return the class of what a call returns; Any where nothing says it."""
    if isinstance(function, type):
        return function
    try:
        hint = signatures.get_type_hints(function).get("return", Any)
    except (NameError, TypeError):
        return Any
    hint = literals.plain(hint)
    kind = typing.get_origin(hint) or hint
    return kind if isinstance(kind, type) else Any


def _is_subclass(kind: Any, hint: Any) -> bool:
    """Return False only where `kind` is known not to be a `hint`."""
    wanted = typing.get_origin(literals.plain(hint)) or literals.plain(hint)
    if takes_anything(kind) or takes_anything(wanted):
        return True
    if not isinstance(kind, type) or not isinstance(wanted, type):
        return wanted is kind
    try:
        return issubclass(kind, wanted)
    except TypeError:  # a protocol that is not for run time
        return True
