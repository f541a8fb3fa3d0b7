"""From a command to work directories whose graphs no later edit can change."""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import atomic_files
from runner.cli import gin_flags
from runner.cli.flags import Command, Flag
from runner.errors import UserError
from runner.files import trusted
from runner.graph import describe, source
from runner.sweeps import frozen, plan, points, trust
from runner.sweeps.frozen import POINT, RUNTIME, SOURCE, SWEEP, Frozen
from runner.workdir import lock, opening

_OURS = {"lock", "units", SOURCE, RUNTIME}
_UNBEGUN = {"lock", "config.txt", "config.py", "config.json", POINT}
_UNBEGUN |= {"command.txt", "versions.json", trusted.RECORD}


def freeze(command: Command, argv: Sequence[str]) -> Frozen:
    """Write a work directory with its graph for each point, or load those written.

    A command without `--sweep` freezes one unit. A sweep that is there already keeps
    its graphs, whatever became of the config file; new gin settings replace its own.

    Args:
      command: the parsed command line.
      argv: the command line, for every unit's `command.txt`.

    Returns:
      The frozen sweep.

    Raises:
      UserError: a point is wrong; the directory holds something else, is in use, was
        frozen by another command, or would do what `--trust` has to allow. Nothing is
        written then.
    """
    assert command.workdir is not None
    path = Path(command.workdir).absolute()
    gin_flags.apply(command.runtime)
    # Planned before anything is written, so that a mistake leaves no directory behind.
    was_frozen = _is_frozen(path)
    new_plan = None if was_frozen else plan.make(command)
    with opening.user_errors(path):
        _refuse_foreign(path)
        path.mkdir(parents=True, exist_ok=True)
        with lock.hold(path / "lock"):
            atomic_files.remove_temporaries(path)
            # Another process may have frozen it before this one had the lock.
            if not _is_frozen(path):
                _write(path, command, new_plan or plan.make(command), argv)
            elif command.base:
                _refuse_other(path, graph_flags(command))
            if was_frozen:
                trust.require(frozen.load(path), command)
            if command.runtime:
                _write_runtime(path)
    return frozen.load(path)


def graph_flags(command: Command) -> frozen.GraphFlags:
    """Return the flags that decide the graphs."""
    return frozen.GraphFlags(
        graph=command.base or "",
        overrides=tuple(_spell(flag) for flag in command.overrides),
        sweep=command.sweep or "",
        seeds=command.seeds or 0,
        baseline=command.baseline or "",
    )


def _spell(flag: Flag) -> str:
    return f"--{flag.name}={flag.value}"


def _is_frozen(path: Path) -> bool:
    return (path / SWEEP).exists()


def _write(
    path: Path, command: Command, sweep_plan: plan.Plan, argv: Sequence[str]
) -> None:
    _remove_unsealed(path)
    sweep_plan, config = _with_source(path, command, sweep_plan)
    (path / "units").mkdir()
    for unit in sweep_plan.units:
        directory = path / "units" / unit.name
        with opening.open_workdir(directory, unit.graph, argv):
            # A file that no unbegun run has: from here on its graph is refused if
            # it is another, however the unit is started.
            content = {key: points.text(key, x) for key, x in unit.point.items()}
            _write_json(directory / POINT, content)
    content = frozen.Content(
        said=graph_flags(command),
        source=config,
        names=sweep_plan.names,
        units=[frozen.entry(unit.name, unit.point) for unit in sweep_plan.units],
    )
    _write_json(path / SWEEP, dataclasses.asdict(content))


def _with_source(
    path: Path, command: Command, sweep_plan: plan.Plan
) -> tuple[plan.Plan, str]:
    """Resolve the plan again from a copy of the config file, where graphs name it.

    Returns:
      The plan, and the value of `--fdl_config` below `path`; empty without a copy.
    """
    from runner.graph import to_json

    if not any(
        to_json.foreign_modules(to_json.to_json(unit.graph))
        for unit in sweep_plan.units
    ):
        return sweep_plan, ""
    assert command.config is not None  # What JSON held can be read by itself.
    # The copy of the config file, and the graphs that it gives.
    file, call = source.split(command.config)
    copy = path / SOURCE / Path(file).name
    copy.parent.mkdir()
    atomic_files.write_atomic(copy, Path(file).read_text(encoding="utf-8"))
    spec = f"{copy.name}:{call}" if call else copy.name
    copied_command = dataclasses.replace(command, config=str(copy.parent / spec))
    units = [
        dataclasses.replace(unit, graph=plan.resolve(copied_command, unit.point))
        for unit in sweep_plan.units
    ]
    # A config that reads files beside it could differ from its copy.
    for old, new in zip(sweep_plan.units, units, strict=True):
        if describe.text(old.graph) != describe.text(new.graph):
            shutil.rmtree(copy.parent)
            raise UserError(
                f"{file}: its copy {copy} makes another graph; "
                "a config that is swept may not depend on where it stands"
            )
    return dataclasses.replace(sweep_plan, units=units), f"{SOURCE}/{spec}"


def _write_runtime(path: Path) -> None:
    import gin

    atomic_files.write_atomic(path / RUNTIME, gin.config_str())


def _remove_unsealed(path: Path) -> None:
    """Remove the remains of an interrupted `freeze`; none of its units has begun.

    Raises:
      UserError: there are other files among them.
    """
    for file in path.glob("units/*/*"):
        if file.name not in _UNBEGUN and not file.name.startswith(
            atomic_files.TEMPORARY
        ):
            raise UserError(f"--workdir={path}: holds no sweep, but {file}")
    for folder in ("units", SOURCE):
        shutil.rmtree(path / folder, ignore_errors=True)


def _refuse_foreign(path: Path) -> None:
    if not path.exists() or _is_frozen(path):
        return
    if (path / opening.CONFIG).exists():
        raise UserError(f"--workdir={path}: holds a run; give the sweep another")
    strangers = sorted(
        file.name
        for file in path.iterdir()
        if file.name not in _OURS and not file.name.startswith(atomic_files.TEMPORARY)
    )
    if strangers:
        raise UserError(
            f"--workdir={path}: holds no sweep (no {SWEEP}) but other files: "
            f"{', '.join(strangers[:3])}{', ...' if len(strangers) > 3 else ''}"
        )


def _refuse_other(path: Path, now: frozen.GraphFlags) -> None:
    before = frozen.read(path).said
    for field in dataclasses.fields(now):
        values = [getattr(flags, field.name) for flags in (before, now)]
        if values[0] != values[1]:
            old, new = (_format_flag(field.name, value) for value in values)
            raise UserError(f"{path} was frozen from another command\n- {old}\n+ {new}")


def _format_flag(key: str, value: Any) -> str:
    if key == "overrides":
        return " ".join(value) or "no overrides"
    name = {"graph": "fdl_config"}.get(key, key)
    return f"--{name}={value}" if value else f"no --{name}"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    atomic_files.write_atomic(path, json.dumps(content, indent=1) + "\n")
