"""Checks of fields, made where a module or a value is constructed."""

import difflib
import math
from collections.abc import Iterable


def positive(**fields: float | None) -> None:
    """Refuse fields that are not above zero; None passes.

    Raises:
      ValueError: for the first such field, with its value.
    """
    for name, value in fields.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def not_negative(**fields: float) -> None:
    """Refuse fields that are below zero or not finite.

    Raises:
      ValueError: for the first such field, with its value.
    """
    for name, value in fields.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must not be negative, got {value}")


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
      ValueError: otherwise; it lists the choices and names the nearest, if any.
    """
    choices = sorted(choices)
    if value not in choices:
        close = _nearest(value, choices)
        hint = f"; did you mean {close!r}?" if close else ""
        raise ValueError(f"{name} must be one of {choices}, got {value!r}{hint}")
    return value


def divisible(name: str, value: int, *, by: str, divisor: int) -> None:
    """Refuse a field that the field `by` does not divide.

    Raises:
      ValueError: with both names and values.
    """
    if value % divisor:
        raise ValueError(f"{name} must be divisible by {by}, got {value} and {divisor}")


def nearest(name: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the choices when none is near."""
    choices = sorted(choices)
    close = _nearest(name, choices)
    return f"; did you mean {close!r}?" if close else f"; one of: {choices}"


def _nearest(name: str, choices: list[str]) -> str | None:
    close = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    return close[0] if close else None
