"""Values typed on a command line, held against a type annotation."""

import ast
import collections.abc
import enum
import inspect
import math
import re
import types
import typing
from typing import Any

_WORDS = {
    "true": True,
    "false": False,
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
}
_ANYTHING = (Any, object, inspect.Parameter.empty)


class Mismatch(Exception):
    """`expected int, got 1.5 (float)`."""


def read(text: str, hint: Any) -> Any:
    """The Python literal that `text` spells, or `text` itself where a str may stand.

    Raises:
      Mismatch: neither is of type `hint`.
    """
    try:
        literal = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        literal = _WORDS.get(text.lower(), text)
    try:
        return fit(literal, hint)
    except Mismatch:
        if literal is None or isinstance(literal, str):
            raise
    try:
        return fit(text, hint)
    except Mismatch:
        raise Mismatch(_complaint(literal, hint)) from None


def fit(value: Any, hint: Any) -> Any:
    """`value` as a `hint`: an int becomes a float, a list a tuple; no bool is an int.

    Raises:
      Mismatch: it cannot be one.
    """
    fitted = _fit(value, plain(hint))
    if fitted is _NO:
        raise Mismatch(_complaint(value, hint))
    return fitted


def takes_none(hint: Any) -> bool:
    """Return True if None may stand where the type is `hint`."""
    return _fit(None, plain(hint)) is None


def show(hint: Any) -> str:
    """A type as a reader says it: `float or None`, `one of 'none', 'full'`."""
    hint = plain(hint)
    if hint is None or hint is type(None):
        return "None"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(repr(option) for option in typing.get_args(hint))
    if is_union(hint):
        options = [plain(option) for option in typing.get_args(hint)]
        common = [o for o in options if o in (bool, int, float, str, type(None))]
        if len(options) > 3 and common:
            options = common
        names = list(dict.fromkeys(show(option) for option in options))
        return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
    if typing.get_origin(hint) is collections.abc.Callable:
        return "a function"
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__.rpartition(".")[2]
    name = re.sub(r"ForwardRef\('([^']*)'\)|'([A-Z]\w*)'", r"\1\2", str(hint))
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", name)


_NO = object()


def _complaint(value: Any, hint: Any) -> str:
    got = "None" if value is None else f"{value!r} ({type(value).__name__})"
    return f"expected {show(hint)}, got {got}"


def plain(hint: Any) -> Any:
    """Return `hint` without `Annotated`, `Final`, `NewType` and `type` aliases."""
    while True:
        origin = typing.get_origin(hint)
        if origin in (typing.Annotated, typing.Final, typing.ClassVar):
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif hasattr(hint, "__value__"):
            hint = hint.__value__
        else:
            return hint


def is_union(hint: Any) -> bool:
    """Return True for `A | B`."""
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _fit(value: Any, hint: Any) -> Any:
    hint = plain(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _ANYTHING or isinstance(hint, typing.TypeVar):
        return value
    if hint is None or hint is type(None):
        return None if value is None else _NO
    if origin is typing.Literal:
        same = [o for o in arguments if o == value and type(o) is type(value)]
        return value if same else _NO
    if is_union(hint):
        fits = [f for f in (_fit(value, o) for o in arguments) if f is not _NO]
        exact = [f for f in fits if type(f) is type(value)]
        return (exact or fits or [_NO])[0]
    if isinstance(origin or hint, type):
        return _fit_class(value, origin or hint, arguments)
    return _NO


def _fit_class(value: Any, kind: type, arguments: tuple[Any, ...]) -> Any:
    if isinstance(value, bool):
        return value if kind is bool else _NO
    if kind is float and isinstance(value, (int, float)):
        return float(value)
    if issubclass(kind, enum.Enum):
        return kind.__members__.get(value, _NO) if isinstance(value, str) else _NO
    if kind is tuple and isinstance(value, (list, tuple)):
        return _fit_tuple(value, arguments)
    if isinstance(value, (list, tuple)) and _is_collection(kind):
        items = [_fit(item, (*arguments, Any)[0]) for item in value]
        return _NO if _NO in items else (list(items) if kind is list else tuple(items))
    if isinstance(value, dict) and issubclass(dict, kind):
        of_key, of_value = arguments or (Any, Any)
        pairs = [(_fit(k, of_key), _fit(v, of_value)) for k, v in value.items()]
        return _NO if any(_NO in pair for pair in pairs) else dict(pairs)
    if isinstance(value, str) and kind is not str and _is_collection(kind):
        return _NO
    try:
        return value if isinstance(value, kind) else _NO
    except TypeError:  # a protocol that is not for run time
        return _NO


def _fit_tuple(value: collections.abc.Sequence, arguments: tuple[Any, ...]) -> Any:
    if not arguments:
        return tuple(value)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        return _NO
    items = [_fit(item, hint) for item, hint in zip(value, arguments, strict=True)]
    return _NO if _NO in items else tuple(items)


def _is_collection(kind: type) -> bool:
    return issubclass(list, kind) and issubclass(kind, collections.abc.Iterable)
