"""The units of a command: the graph of every point, resolved and checked."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

import fiddle as fdl

from runner.cli import command_graph
from runner.cli.flags import Command
from runner.errors import UserError
from runner.graph import build, describe, nodes, paths, source
from runner.sweeps import points, seeds

_LONGEST = 120  # characters of a unit's name


@dataclasses.dataclass(frozen=True)
class Planned:
    """A unit that is not written yet.

    Attributes:
      name: name of its directory.
      point: value by flag.
      label: the point in short.
      graph: its graph.
      changes: lines of its graph that differ from the base's.
    """

    name: str
    point: points.Point
    label: str
    graph: fdl.Buildable
    changes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All units of a command.

    Attributes:
      names: short names of the swept flags.
      units: the units, in the order of the points.
    """

    names: Mapping[str, str]
    units: Sequence[Planned]


def make(command: Command) -> Plan:
    """Resolve the graph of the command at every point, and construct its nodes.

    A command without `--sweep` and `--seeds` is one unit.

    Raises:
      UserError: the sweep or a point of it is wrong, or two points give the same graph.
    """
    # Without a sweep: one unit.
    if not command.sweeps:
        graph = command_graph.resolve(command)
        build.job(graph)
        return Plan({}, [Planned("00", {}, "", graph, ())])
    # Points, and names for their flags that are unambiguous in the graph.
    base = command_graph.resolve(command)
    sweep_points = [] if command.sweep is None else read(command)
    if command.seeds is not None:
        seed = (nodes.children(base) or {}).get("seed")
        if seed is None:
            raise UserError(f"--seeds={command.seeds}: the graph has no seed")
        sweep_points = seeds.over(sweep_points, seed.value, command.seeds)
    base_lines = describe.lines(base)
    names = short_names(
        {key: None for point in sweep_points for key in point}, base_lines
    )
    _check_baseline(command, sweep_points, names)
    # The graph of each point, built so that every mistake shows before the first run.
    units, labels = [], {}
    for number, point in enumerate(sweep_points):
        label = points.label(point, names)
        try:
            graph = resolve(command, point)
            text = describe.text(graph)
            if (same := labels.setdefault(text, label)) != label:
                raise UserError(f"makes the same graph as the point {same}")
            build.job(graph)
        except UserError as error:
            flag = f"--sweep={command.sweep}" if command.sweep else "--seeds"
            raise UserError(f"{flag}, point {label}: {error}") from None
        changes = describe.changes(_text(base_lines), text)
        name = directory(number, len(sweep_points), label)
        units.append(Planned(name, point, label, graph, changes))
    return Plan(names, units)


def read(command: Command) -> list[points.Point]:
    """Return the points of the sweep function of the config file, or of `values`.

    Raises:
      UserError: there is no such function, or what it returns are no points.
    """
    assert command.config is not None and command.sweep is not None
    path, _ = source.split(command.config)
    try:
        module = source.load(path)
        call = source.Call.parse(command.sweep)
        if call.name == "values" and not hasattr(module, call.name):
            return points.check(source.call(module, points.values, call=call))
        function = source.find(module, call.name, what="sweep")
        return points.check(source.call(module, function, call=call))
    except UserError as error:
        raise UserError(f"--sweep={command.sweep}: {error}") from None


def _check_baseline(
    command: Command, sweep_points: Sequence[points.Point], names: Mapping[str, str]
) -> None:
    key = seeds.axis(names)
    if key is not None:
        labels = [seeds.setting(point, key, names) for point in sweep_points]
        seeds.named(command.baseline or "", list(dict.fromkeys(labels)))
    elif command.baseline:
        raise UserError(f"--baseline={command.baseline}: the sweep sets no seed")


def resolve(command: Command, point: points.Point) -> fdl.Buildable:
    """Return the graph of a command at one point: its overrides, then the point's."""
    overrides = (*command.overrides, *points.flags(point))
    return command_graph.resolve(dataclasses.replace(command, overrides=overrides))


def short_names(keys: Iterable[str], graph: Mapping[str, str]) -> dict[str, str]:
    """Return the shortest unambiguous end of each flag's path."""
    keys = list(keys)
    places = {tuple(map(str, paths.parse(path))) for path in graph if path != "<root>"}
    places |= {_segments(key) for key in keys}
    return {key: _short(_segments(key), places) for key in keys}


def directory(number: int, among: int, label: str) -> str:
    """Return a directory's name: the number first, so that names sort as points do."""
    width = max(2, len(str(among - 1)))
    safe = re.sub(r"[^\w.=+-]+", "_", label.replace(" ", "-"))
    return f"{number:0{width}}-{safe}"[:_LONGEST]


def _short(segments: tuple[str, ...], places: Iterable[tuple[str, ...]]) -> str:
    for length in range(1, len(segments)):
        end = segments[-length:]
        if (
            sum(place[-length:] == end for place in places) == 1
            and end[0].isidentifier()
        ):
            return _join(end)
    return _join(segments)


def _join(segments: Sequence[str]) -> str:
    """`losses[0].weight`"""
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(segments))


def _segments(key: str) -> tuple[str, ...]:
    kind, _, path = key.removesuffix("+").partition(".")
    return tuple(map(str, paths.parse(path))) if kind == "fdl" else (path or kind,)


def _text(lines: Mapping[str, str]) -> str:
    return "".join(f"{path}: {value}\n" for path, value in lines.items())
