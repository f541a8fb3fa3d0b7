"""A sweep as its directory holds it.

SWEEP/sweep.json         the command and the units: written last
SWEEP/units/NAME/        a work directory for each, its graph in it from the start
SWEEP/units/NAME/point.json    the values of the swept flags
SWEEP/runtime.gin        the gin settings of all of them
SWEEP/source/FILE.py     the config file, where graphs cannot be read without it
SWEEP/lock               held while one machine runs them one after another
SWEEP/sweep.md, results.json, report.html, sweep.svg    the results
"""

import ast
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.sweeps import points
from runner.workdir import lock

SWEEP, POINT, RUNTIME = "sweep.json", "point.json", "runtime.gin"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run of a sweep.

    Attributes:
      name: name of its directory: `02-peak_value=0.003-z_loss.weight=0.0`.
      path: its work directory, absolute.
      point: value by flag; empty without a sweep.
      label: the point in short: `peak_value=0.003 z_loss.weight=0.0`.
      graph: flags that name the graph, where its work directory alone cannot.
    """

    name: str
    path: Path
    point: Mapping[str, Any]
    label: str = ""
    graph: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """True once the run has written its result."""
        return (self.path / "result.json").exists()

    @property
    def in_use(self) -> bool:
        """True while a process runs it, which may outlive its launcher."""
        try:
            with lock.hold(self.path / "lock"):
                return False
        except UserError:
            return True

    @property
    def arguments(self) -> list[str]:
        """Arguments of `runner` that start or continue the unit."""
        runtime = self.path.parents[1] / RUNTIME
        bound = [f"--gin_file={runtime}"] if runtime.exists() else []
        return [*self.graph, f"--workdir={self.path}", *bound]


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A sweep whose graphs are written.

    Attributes:
      path: the directory of the sweep.
      name: the value of `--sweep`; empty without a sweep.
      units: the runs, in the order of the points.
      names: short names of the swept flags.
    """

    path: Path
    name: str
    units: tuple[Unit, ...]
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)


def load(path: str | Path) -> Frozen:
    """Load the sweep in a directory.

    Raises:
      UserError: it holds none, or its `sweep.json` is damaged.
    """
    path = Path(path).absolute()
    content = read(path)
    try:
        names = content["names"]
        units = [_unit(path, entry, content) for entry in content["units"]]
        return Frozen(path, content["said"]["sweep"], tuple(units), names)
    except (KeyError, TypeError, ValueError, SyntaxError, AttributeError):
        raise _damaged(path) from None


def read(path: Path) -> dict[str, Any]:
    """Return the content of `sweep.json`.

    Raises:
      UserError: there is none, or it is damaged.
    """
    try:
        with (path / SWEEP).open(encoding="utf-8") as file:
            content = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path}: holds no sweep (no {SWEEP}); "
            "start one with --fdl_config=configs/NAME.py --sweep=NAME"
        ) from None
    except ValueError:
        raise _damaged(path) from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise _damaged(path)
    return content


def entry(name: str, point: Mapping[str, Any]) -> dict[str, Any]:
    """Return a unit for `sweep.json`: values as literals, so that a tuple stays one."""
    return {"name": name, "point": {key: repr(value) for key, value in point.items()}}


def _unit(path: Path, entry: Mapping[str, Any], content: Mapping[str, Any]) -> Unit:
    point = {key: ast.literal_eval(value) for key, value in entry["point"].items()}
    graph = []
    if content["source"]:
        graph = [
            f"--fdl_config={path / content['source']}",
            *content["said"]["overrides"],
            *(f"--{flag.name}={flag.value}" for flag in points.flags(point)),
        ]
    return Unit(
        name=entry["name"],
        path=path / "units" / entry["name"],
        point=point,
        label=points.label(point, content["names"]),
        graph=tuple(graph),
    )


def _damaged(path: Path) -> UserError:
    return UserError(f"{path / SWEEP} is damaged: not what a sweep writes")
