"""Points of a sweep: flags of the graph by name, and lists of them put together."""

import ast
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from runner.cli.flags import Flag
from runner.errors import UserError

Point = dict[str, Any]
"""A value by the name of its flag: `fdl.PATH`, `fdl_tag.NAME` or `fiddler`."""

_KEYS = ("fdl.", "fdl_tag.")


def values(key: str, *choices: Any) -> list[Point]:
    """Return a point for each value of one flag.

    Raises:
      UserError: it is no flag of the graph, or there is no value, or one twice.
    """
    _check_key(key)
    if not choices:
        raise UserError(f"{key}: no values; give at least one")
    for choice in choices:
        _check_value(key, choice)
    points = [{key: choice} for choice in choices]
    _refuse_duplicates(points)
    return points


def product(*parts: Sequence[Point]) -> list[Point]:
    """Return every combination of points of the parts; the last varies fastest.

    Raises:
      UserError: a part is empty, or two parts set one flag.
    """
    _check_parts("product", parts)
    return [_join(combination) for combination in itertools.product(*parts)]


def zipped(*parts: Sequence[Point]) -> list[Point]:
    """Return the first points of all parts combined, then the second, and so on.

    Raises:
      UserError: a part is empty or of another length, or two parts set one flag.
    """
    _check_parts("zipped", parts)
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise UserError(f"zipped: parts of unequal lengths: {_and(lengths)} points")
    return [_join(combination) for combination in zip(*parts, strict=True)]


def check(points: Any) -> list[Point]:
    """Return the value of a sweep function, if it is a list of points.

    Raises:
      UserError: it is something else or empty, sets anything but flags of the graph,
        or has a point twice.
    """
    if not isinstance(points, Sequence) or isinstance(points, str):
        raise UserError(
            f"made {type(points).__name__}, not a list of points; "
            "return sweeps.values(...), or a product of such"
        )
    if not points:
        raise UserError("made no points; expected at least one")
    for point in points:
        if not isinstance(point, Mapping) or not point:
            raise UserError(f"expected points {{flag: value}}, got {point!r}")
        for key, value in point.items():
            _check_key(key)
            _check_value(key, value)
    _refuse_duplicates(points)
    return [dict(point) for point in points]


def flags(point: Mapping[str, Any]) -> tuple[Flag, ...]:
    """The point as flags of a command line, in its order."""
    return tuple(Flag(key, text(key, value)) for key, value in point.items())


def text(key: str, value: Any) -> str:
    """A value as it is typed: a call for `fiddler`, else a literal."""
    return value if key == "fiddler" else repr(value)


def label(point: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    """`peak_value=0.003 z_loss.weight=0.0001`; `names` are shorter than the keys."""
    shorter = names or {}
    return " ".join(f"{shorter.get(key, key)}={value}" for key, value in point.items())


def _check_key(key: Any) -> None:
    if isinstance(key, str):
        if key == "fiddler" or any(key.startswith(k) and key != k for k in _KEYS):
            return
        bare = key.removeprefix("--")
        if bare.startswith("gin"):
            raise UserError(
                f"{key}: a sweep cannot set gin flags: they must not change a result"
            )
        if not bare.startswith(("fdl", "fiddler")):
            raise UserError(
                f"'{key}' is no flag of the graph; did you mean 'fdl.{key}'?"
            )
    raise UserError(
        f"{key!r} is no flag of the graph; "
        "expected 'fdl.PATH', 'fdl_tag.NAME' or 'fiddler'"
    )


def _check_value(key: str, value: Any) -> None:
    if key == "fiddler":
        if not isinstance(value, str):
            raise UserError(
                f"fiddler: expected text such as 'steps(300)', got {value!r}"
            )
        return
    try:
        literal = ast.literal_eval(repr(value))
    except (ValueError, SyntaxError):
        literal = NotImplemented
    if literal is NotImplemented or literal != value:
        raise UserError(
            f"{key}: expected a literal (number, string ...), got {value!r}"
        )


def _check_parts(what: str, parts: Sequence[Sequence[Point]]) -> None:
    if not parts:
        raise UserError(f"{what}: nothing to combine")
    earlier: set[str] = set()
    for number, part in enumerate(parts, 1):
        if not part:
            raise UserError(f"{what}: part {number} has no points")
        keys = {key for point in part for key in point}
        if twice := sorted(earlier & keys):
            raise UserError(f"{what}: two parts set {twice[0]}")
        earlier |= keys


def _refuse_duplicates(points: Sequence[Mapping[str, Any]]) -> None:
    earlier = set()
    for point in points:
        key = tuple(sorted((key, repr(value)) for key, value in point.items()))
        if key in earlier:
            raise UserError(f"the point {label(point)} is there twice")
        earlier.add(key)


def _join(points: Sequence[Point]) -> Point:
    return {key: value for point in points for key, value in point.items()}


def _and(numbers: Sequence[int]) -> str:
    return " and ".join(str(number) for number in numbers)
