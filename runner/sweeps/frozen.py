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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.files import confined, form, remote
from runner.graph import source
from runner.sweeps import points
from runner.workdir import lock

SWEEP, POINT, RUNTIME, SOURCE = "sweep.json", "point.json", "runtime.gin", "source"
VERSION = 1
_OVERRIDES = ("--fdl.", "--fdl_tag.", "--fiddler=")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A unit in `sweep.json`.

    Attributes:
      name: of its directory.
      point: literals by flag, as text, so that a tuple stays one.
    """

    name: str
    point: Mapping[str, str]

    def values(self) -> points.Point:
        """Return the point.

        Raises:
          ValueError: it is no point.
        """
        try:
            point = {key: ast.literal_eval(text) for key, text in self.point.items()}
            return points.check([point])[0] if point else {}
        except (SyntaxError, TypeError, MemoryError, RecursionError, UserError):
            raise ValueError(f"the point of {self.name!r} is none") from None


@dataclasses.dataclass(frozen=True)
class GraphFlags:
    """Flags of the command that decide the graphs.

    Attributes:
      graph: the config file or saved graph.
      overrides: `--fdl.*`, `--fdl_tag.*` and `--fiddler=*`, in order.
      sweep: the value of `--sweep`; empty without one.
      seeds: that of `--seeds`; 0 without.
      baseline: that of `--baseline`; empty for the first setting.

    Raises:
      ValueError: an override is another flag.
    """

    graph: str
    overrides: Sequence[str]
    sweep: str
    seeds: int = 0
    baseline: str = ""

    def __post_init__(self) -> None:
        for flag in self.overrides:
            if not flag.startswith(_OVERRIDES):
                raise ValueError(f"{flag!r} is no override")


@dataclasses.dataclass(frozen=True)
class Content:
    """Content of `sweep.json`.

    Attributes:
      said: flags of the command.
      source: value of `--fdl_config` below the sweep, where its graphs need one.
      names: short names of the swept flags.
      units: the runs, in the order of the points.
      version: of the format.
    """

    said: GraphFlags
    source: str
    names: Mapping[str, str]
    units: Sequence[Entry]
    version: int = VERSION


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
        except lock.InUse:
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
      source: the Python file that the units run; None where graphs need none.
      baseline: the setting that seeds are compared with; empty for the first.
    """

    path: Path
    name: str
    units: tuple[Unit, ...]
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: Path | None = None
    baseline: str = ""


def load(path: str | Path) -> Frozen:
    """Load the sweep in a directory; nothing of it is run.

    Raises:
      UserError: it holds none, its `sweep.json` is damaged, or that names something
        outside of the directory; or it is the address of an object store.
    """
    remote.refuse("sweep", str(path))
    path = Path(path).absolute()
    content = read(path)
    try:
        file, _ = source.split(content.source)
        copy = confined.inside(path, file) if file else None
        if copy is not None and copy.parent != path / SOURCE:
            raise ValueError(f"{file!r} names nothing in {path / SOURCE}")
        units = [_unit(path, entry, content) for entry in content.units]
        if len({unit.name for unit in units}) < len(units):
            raise ValueError("two units have one name")
    except ValueError as error:
        raise _damaged(path, error) from None
    said, names = content.said, content.names
    return Frozen(path, said.sweep, tuple(units), names, copy, said.baseline)


def read(path: Path) -> Content:
    """Return the content of `sweep.json`.

    Raises:
      UserError: there is none, or it is damaged.
    """
    try:
        content = form.read(Content, path / SWEEP)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path}: holds no sweep (no {SWEEP}); "
            "start one with --fdl_config=configs/NAME.py --sweep=NAME"
        ) from None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    if content.version != VERSION:
        raise _damaged(path, f"version {content.version}, this program reads {VERSION}")
    return content


def entry(name: str, point: Mapping[str, Any]) -> Entry:
    """Return a unit for `sweep.json`."""
    return Entry(name, {key: repr(value) for key, value in point.items()})


def _unit(path: Path, entry: Entry, content: Content) -> Unit:
    units, point = path / "units", entry.values()
    directory = confined.inside(units, entry.name)
    if directory.parent != units:
        raise ValueError(f"{entry.name!r} names nothing in {units}")
    graph = []
    if content.source:
        graph = [
            f"--fdl_config={path / content.source}",
            *content.said.overrides,
            *(f"--{flag.name}={flag.value}" for flag in points.flags(point)),
        ]
    return Unit(
        name=entry.name,
        path=directory,
        point=point,
        label=points.label(point, content.names),
        graph=tuple(graph),
    )


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{path / SWEEP} is damaged: {reason}")
