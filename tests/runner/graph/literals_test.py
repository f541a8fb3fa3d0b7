"""Text of the command line against annotations."""

import collections.abc
import enum
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Optional

import jax
import pytest

from runner.graph import literals


class Colour(enum.Enum):
    RED = 1


Steps = NewType("Steps", int)


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("1e-3", float, 0.001),
        ("inf", float, math.inf),
        ("abc", str, "abc"),
        ("'abc'", str, "abc"),
        ("16", str, "16"),
        ("", str, ""),
        ("True", bool, True),
        ("false", bool, False),
        ("None", int | None, None),
        ("3", Optional[int], 3),  # noqa: UP045 - another class
        ("3", int | float, 3),
        ("3", float | int, 3),
        ("3", float | Callable[[int], float], 3.0),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ("(1, 2)", list[int], [1, 2]),
        ("[1, 2]", Sequence[float], (1.0, 2.0)),
        ("(1, 'a')", tuple[int, str], (1, "a")),
        ("{'a': 1}", dict[str, float], {"a": 1.0}),
        ("{'a': ('b',)}", Mapping[str, tuple[str, ...]], {"a": ("b",)}),
        ("RED", Colour, Colour.RED),
        ("full", Literal["none", "full"], "full"),
        ("7", Annotated[int, "tag"], 7),
        ("7", Steps, 7),
        ("7", Any, 7),
        ("7", object, 7),
        ("abc", Any, "abc"),
    ],
)
def test_text_becomes_a_value_of_the_type(text, hint, value):
    read = literals.read(text, hint)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "complaint"),
    [
        ("abc", int, "expected int, got 'abc' (str)"),
        ("1.5", int, "expected int, got 1.5 (float)"),
        ("1.0", int, "expected int, got 1.0 (float)"),
        ("True", int, "expected int, got True (bool)"),
        ("True", float, "expected float, got True (bool)"),
        ("1", bool, "expected bool, got 1 (int)"),
        ("None", int, "expected int, got None"),
        ("None", str, "expected str, got None"),
        ("x", float | None, "expected float or None, got 'x' (str)"),
        ("slow", Literal["none", "full"], "expected one of 'none', 'full', got"),
        ("abc", Sequence[str], "expected Sequence[str], got 'abc'"),
        ("[1, 'a']", Sequence[int], "expected Sequence[int], got [1, 'a'] (list)"),
        ("(1, 2, 3)", tuple[int, int], "expected tuple[int, int], got (1, 2, 3)"),
        ("{'a': 'b'}", dict[str, int], "expected dict[str, int], got"),
        ("BLUE", Colour, "expected Colour, got 'BLUE'"),
        ("f", Callable[[int], int], "expected a function, got 'f'"),
        ("3", jax.Array, "expected Array, got 3 (int)"),
        ("[1]", collections.abc.Mapping[str, int], "got [1] (list)"),
        ("3", "Later", "expected Later, got 3"),
        ("[3]", types.GenericAlias(Sequence, ("Later",)), "expected Sequence[Later],"),
        ("(" * 500, int, "expected int, got '(((("),
    ],
)
def test_anything_else_is_refused_by_name(text, hint, complaint):
    with pytest.raises(literals.Mismatch) as caught:
        literals.read(text, hint)
    assert complaint in str(caught.value)
