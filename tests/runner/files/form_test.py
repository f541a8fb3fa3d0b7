"""JSON as dataclasses: what is no such thing is said in one line, with its path."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from runner.errors import UserError
from runner.files import form


@dataclasses.dataclass(frozen=True)
class Unit:
    name: str
    weight: float = 1.0

    def __post_init__(self):
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")


@dataclasses.dataclass(frozen=True)
class Sweep:
    units: Sequence[Unit]
    mode: Literal["a", "b"] = "a"
    place: tuple[float, int] | None = None
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    rest: Any = None
    sealed: bool = False


WHOLE = {
    "units": [{"name": "x", "weight": 2, "unknown": 1}],
    "place": [1, 2],
    "counts": {"rows": 3},
    "rest": [None],
}


def test_a_whole_one_is_parsed():
    assert form.parse(Sweep, WHOLE) == Sweep(
        units=(Unit("x", 2.0),), place=(1.0, 2), counts={"rows": 3}, rest=[None]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 3}, "units must be a list, got 3"),
        ({"units": "x"}, 'units must be a list, got "x"'),
        ({"units": [3]}, "units[0] must be an object, got 3"),
        ({"units": [{}]}, "units[0] has no 'name'"),
        ({"units": [{"name": None}]}, "units[0].name must be a string, got null"),
        ({"units": [{"name": "x", "weight": "1"}]}, "must be a number"),
        ({"units": [{"name": "x", "weight": -1}]}, "units[0]: weight must not be neg"),
        ({"mode": "c"}, "mode must be one of 'a', 'b', got \"c\""),
        ({"place": [1]}, "place must be a list of 2, got [1]"),
        ({"place": [1, 2.5]}, "place[1] must be an integer, got 2.5"),
        ({"counts": {"rows": True}}, "counts.rows must be an integer, got true"),
        ({"counts": {"rows": 10**30}}, "counts.rows must be an integer of 64 bits"),
        ({"counts": []}, "counts must be an object, got []"),
        ({"sealed": 1}, "sealed must be true or false, got 1"),
        ({"sealed": float("nan")}, "sealed must be true or false, got nan"),
    ],
)
def test_another_form_is_refused_with_its_path(change, message):
    with pytest.raises(form.Malformed) as refusal:
        form.parse(Sweep, {**WHOLE, **change})
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_file_is_named_and_one_that_is_absent_is_no_error(tmp_path):
    path = tmp_path / "x.json"
    with form.of_file(path):
        form.read(Sweep, path)
    path.write_text("[]")
    with (
        pytest.raises(UserError, match=r"x\.json is damaged: it must be an object"),
        form.of_file(path),
    ):
        form.read(Sweep, path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[" * 100_000, "nested more than 100 deep"),
        (b"[" * 101 + b"]" * 101, "nested more than 100 deep"),
        (b'{"a": "\xff"}', "not UTF-8: invalid start byte, byte 7"),
        (b'{"a": }', r"not JSON: Expecting value \(line 1, column 7\)"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b"9" * 5000, "not JSON: Exceeds the limit"),
    ],
)
def test_json_that_cannot_be_read_says_why(text, reason):
    with pytest.raises(form.Malformed, match=reason):
        form.load(text)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "data.json")
    with pytest.raises(OSError, match="no ordinary file"):
        form.read_text(tmp_path / "data.json")
