"""Typed values out of JSON: a dataclass by its annotations, or one line why not.

A digest proves that a file is whole, not that it is well formed: whoever made the file
made the digest. So each format is one dataclass, and is parsed where it is read.
"""

import contextlib
import dataclasses
import functools
import json
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runner.errors import UserError
from runner.files import confined

T = TypeVar("T")
_DEEPEST = 100
_LARGEST = 2**63
_NAMES = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "an integer",
    list: "a list",
    str: "a string",
    type(None): "null",
}


class Malformed(ValueError):
    """`units[2].name must be a string, got 5`."""


@contextlib.contextmanager
def of_file(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong in the block; one that is absent is no error.

    Raises:
      UserError: The file is malformed, or cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Malformed as error:
        raise UserError(f"{path} is damaged: {error}") from error


def read_text(path: Path) -> str:
    """Return the text of an ordinary file, which may be a link to one.

    Raises:
      Malformed: It is not UTF-8.
      OSError: There is no such file, or it is a pipe or a device.
    """
    home = Path(os.path.realpath(path))
    with open(confined.descriptor_of(home, os.O_RDONLY), "rb") as file:
        return decode(file.read())


def decode(content: bytes) -> str:
    """Return bytes as text.

    Raises:
      Malformed: They are not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8: {error.reason}, byte {error.start}") from None


def load(text: str | bytes) -> Any:
    """Return the value of a JSON text, nested no deeper than 100.

    Raises:
      Malformed: It is not JSON, not UTF-8 or nested deeper.
    """
    try:
        value = json.loads(decode(text) if isinstance(text, bytes) else text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"not JSON: {error.msg} ({place})") from None
    except RecursionError:
        raise Malformed(f"nested more than {_DEEPEST} deep") from None
    except ValueError as error:  # a number of more than 4300 digits
        raise Malformed(f"not JSON: {str(error).partition(';')[0]}") from None
    _refuse_depth(value)
    if "\\ud" in str(text).lower():  # half a surrogate pair can be in no message
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Malformed("not JSON: a string holds half a surrogate pair") from None
    return value


def read(kind: type[T], path: Path) -> T:
    """Return the dataclass that a JSON file holds.

    Raises:
      Malformed: It is not JSON, or of another form.
      OSError: The file cannot be read.
    """
    return parse(kind, load(read_text(path)))


def entries(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one where there is no file.

    Raises:
      UserError: The file holds something else, or cannot be read.
    """
    with of_file(path):
        value = load(read_text(path))
        if not isinstance(value, dict):
            raise Malformed(f"it must be an object, got {_NAMES[type(value)]}")
        return value
    return {}


def parse(kind: type[T], value: object, at: str = "") -> T:
    """Return a JSON value as a `kind`; keys that it does not know are left out.

    Args:
      kind: A dataclass whose fields are str, bool, int (of 64 bits), float, None, Any,
        dataclasses, and sequences, mappings, tuples, literals and unions of these.
      value: The parsed JSON.
      at: Path of the value, for messages: `units[2].name`.

    Raises:
      Malformed: With the path, what is wanted there, and what there is.
    """
    return _parse(kind, value, at)


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise Malformed(f"nested more than {_DEEPEST} deep")


def _inner(value: Any) -> Iterator[Any]:
    """Yield the containers in a container."""
    items = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        yield from (item for item in items if isinstance(item, (dict, list)))


def _parse(hint: Any, value: Any, at: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    # Choices.
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _parse_union(arguments, value, at)
    if origin is typing.Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise _malformed(at, f"one of {', '.join(map(repr, arguments))}", value)

    # Containers, whose parts are parsed in turn.
    if dataclasses.is_dataclass(hint):
        return _parse_dataclass(hint, value, at)
    kind = origin or hint
    if kind is tuple and arguments[-1:] != (...,):
        return _parse_tuple(arguments, value, at)
    if (
        isinstance(kind, type)
        and issubclass(kind, (tuple, Sequence))
        and kind is not str
    ):
        _require(list, value, at)
        items = [_parse(arguments[0], x, f"{at}[{i}]") for i, x in enumerate(value)]
        return tuple(items)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        _require(dict, value, at)
        return {k: _parse(arguments[1], x, _below(at, k)) for k, x in value.items()}
    return _parse_scalar(kind, value, at)


def _parse_scalar(kind: type, value: Any, at: str) -> Any:
    if kind is float and type(value) is int and abs(value) < _LARGEST:
        return float(value)
    _require(kind, value, at)
    if kind is int and not -_LARGEST <= value < _LARGEST:
        raise _malformed(at, "an integer of 64 bits", value)
    return value


def _parse_tuple(hints: Sequence[Any], value: Any, at: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) != len(hints):
        raise _malformed(at, f"a list of {len(hints)}", value)
    pairs = enumerate(zip(hints, value, strict=True))
    return tuple(_parse(hint, x, f"{at}[{i}]") for i, (hint, x) in pairs)


def _parse_union(hints: Sequence[Any], value: Any, at: str) -> Any:
    # None, and one form more: the message about that one is the one that helps.
    for hint in hints[:-1]:
        try:
            return _parse(hint, value, at)
        except Malformed:
            continue
    if value is None and type(None) in hints:
        return None
    wanted = [hint for hint in hints if hint is not type(None)]
    return _parse(wanted[-1], value, at)


def _parse_dataclass(kind: Any, value: Any, at: str) -> Any:
    _require(dict, value, at)
    hints, values = _hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            place = _below(at, field.name)
            values[field.name] = _parse(hints[field.name], value[field.name], place)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise Malformed(f"{at or 'it'} has no {field.name!r}")
    try:
        return kind(**values)
    except (ValueError, UserError) as error:
        raise Malformed(f"{at}: {error}" if at else str(error)) from None


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _require(kind: type, value: Any, at: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _malformed(at, _NAMES[kind], value)


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _malformed(at: str, wanted: str, value: object) -> Malformed:
    text = json.dumps(value) if not isinstance(value, float) else repr(value)
    text = text if len(text) <= 40 else text[:37] + "..."
    return Malformed(f"{at or 'it'} must be {wanted}, got {text}")
