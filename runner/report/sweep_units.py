"""Units of a sweep as runs to compare, each named by what it differs in."""

import ast
import contextlib
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.errors import UserError
from runner.files import form

_SWEEP = "sweep.json"


@dataclasses.dataclass(frozen=True)
class _Unit:
    name: str
    point: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Sweep:
    """Names of the units, of the content of `sweep.json`."""

    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    units: Sequence[_Unit] = ()


def is_sweep(path: Path) -> bool:
    """Return True for the directory of a sweep."""
    return (path / _SWEEP).is_file() and (path / "units").is_dir()


def begun(sweep: Path) -> dict[str, Path]:
    """Return the units that have metrics by their labels, in the order of the sweep.

    A label is the values of the flags that are swept, calls without their modules:
    `kd.loss=ForwardKL seed=1`.

    Raises:
      UserError: No unit has begun, or `sweep.json` is damaged.
    """
    labels = _labels(sweep)
    # A sweep may be a stranger's: no link leads out of it.
    inside = [x for x in sorted((sweep / "units").iterdir()) if not x.is_symlink()]
    units = {
        labels.get(path.name, path.name): path
        for path in inside
        if (path / "metrics.jsonl").is_file()
    }
    if not units:
        raise UserError(f"no unit of the sweep in {sweep} has begun")
    return units


def _labels(sweep: Path) -> dict[str, str]:
    """Return the label of each unit by the name of its directory."""
    with form.of_file(sweep / _SWEEP):
        content = form.read(_Sweep, sweep / _SWEEP)
        labels = {
            unit.name: " ".join(
                f"{content.names.get(key, key)}={_plain(text)}"
                for key, text in unit.point.items()
            )
            for unit in content.units
        }
        # A label that two units have, or none, names neither.
        values = list(labels.values())
        return {k: x for k, x in labels.items() if x and values.count(x) == 1}
    return {}


def short_call(text: str) -> str:
    """Return `ForwardKL` for `losses.ForwardKL()`, and any other text as it is."""
    call = re.fullmatch(r"(?:\w+\.)*(\w+)(\(.*\))", text)
    return call[1] + call[2].removeprefix("()") if call else text


def _plain(text: str) -> str:
    """Return a literal as a label has it: `ForwardKL` for `'losses.ForwardKL()'`."""
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        text = str(ast.literal_eval(text))
    return short_call(text)
