"""Opening of a work directory: for a new run, or for one that goes on.

`config.json` is written last: a directory that has one is a run. A run goes on only
under the graph that it began with; the gin settings may change. Until it has loaded its
data it has not begun, and may be given another graph.
"""

import contextlib
import dataclasses
import datetime
import re
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import fiddle as fdl

from runner import atomic_files
from runner.checkpoint.presence import nearest_run
from runner.errors import UserError
from runner.files import confined, form, trusted
from runner.machine import versions
from runner.workdir import lock
from runner.workdir.workdir import Workdir, format_changes, write_json

CONFIG = "config.json"
_BEFORE_CONFIG = {"lock", "config.txt", "config.py", "command.txt", "versions.json"}
_BEFORE_CONFIG |= {trusted.RECORD}


@contextlib.contextmanager
def open_workdir(
    path: str | Path,
    config: fdl.Buildable,
    argv: Sequence[str],
    *,
    writes: bool = True,
    begin_anew: bool = False,
) -> Iterator[Workdir]:
    """Open and lock a work directory for a run of `config`, new or to be continued.

    Args:
      path: created if absent, with its parents; else empty, or a run of this graph.
      config: the graph.
      argv: the command line, for `command.txt`.
      writes: false for all but the first of several processes, which share the
        directory: they neither lock nor write it.
      begin_anew: begin at step 0 where every checkpoint is damaged.

    Raises:
      UserError: it is held by another run, holds something else, holds a run of another
        graph (the difference is shown) or a link that leads out of it, or cannot be
        written. Nothing is written then.
    """
    path = Path(path).absolute()
    workdir = Workdir(path, writes=writes, begin_anew=begin_anew)
    if not writes:
        yield workdir
        return
    # Refusals that need no lock, so that they write nothing.
    texts = _texts(config)
    _refuse_foreign(workdir.path)
    with contextlib.ExitStack() as stack:
        with user_errors(workdir.path):
            workdir.path.mkdir(parents=True, exist_ok=True)
            confined.refuse_links(workdir.path)
            stack.enter_context(lock.hold(workdir.path / "lock"))
            # Under the lock: continue the run, or begin one.
            runs = _runs(workdir.path)
            if runs:
                _refuse_changed(workdir.path, texts["config.txt"])
            atomic_files.remove_temporaries(workdir.path)
            _append_command(workdir.path / "command.txt", argv)
            if not runs:
                _begin(workdir.path, texts)
            command = _record_modules(workdir.path, texts[CONFIG], argv)
        yield dataclasses.replace(workdir, command=command)


def has_checkpoints(path: str | Path) -> bool:
    """Return True for the work directory of a run that has a checkpoint to go on from.

    Whether one is whole is not looked at.
    """
    checkpoints = Path(path) / "checkpoints"
    return checkpoints.is_dir() and any(checkpoints.glob("*/manifest.json"))


def saved_config(path: str | Path, *, flag: str = "workdir") -> Path:
    """Return the path of the saved graph of the run in `path`.

    Args:
      path: A work directory.
      flag: The flag that names it, for messages.

    Raises:
      UserError: there is no run; names the runs in directories below, if any.
    """
    path = Path(path)
    if (path / CONFIG).is_file():
        return path / CONFIG
    if not path.is_dir():
        near = nearest_run(path, CONFIG, "sweep.json")
        near = near if "did you mean" in near else ""
        raise UserError(
            f"--{flag}={path}: no such directory{near or ';'} "
            "a new run needs --fdl_config=configs/NAME.py too"
        )
    below = sorted(str(config.parent) for config in path.glob(f"*/{CONFIG}"))
    hint = "start one with --fdl_config=configs/NAME.py"
    if below:
        hint = f"there are runs in {', '.join(below[:5])}"
    raise UserError(f"--{flag}={path}: holds no run (no {CONFIG}); {hint}")


def _texts(config: fdl.Buildable) -> dict[str, str]:
    """Return content by file name, `config.json` last."""
    from runner.graph import describe, to_json, to_python

    return {
        "config.txt": describe.text(config),
        "config.py": to_python.to_python(config),
        CONFIG: to_json.to_json(config),
    }


def _runs(path: Path) -> bool:
    """Return True once a run has loaded its data; until then its graph may change.

    A mistake that shows late (a vocabulary smaller than the tokenizer's) can then be
    mended in the same directory.
    """
    if not (path / CONFIG).exists():
        return False
    return any(file.name not in {*_BEFORE_CONFIG, CONFIG} for file in path.iterdir())


def _begin(path: Path, texts: Mapping[str, str]) -> None:
    write_json(path / "versions.json", versions.software())
    for name, text in texts.items():
        atomic_files.write_atomic(path / name, text)


def _record_modules(path: Path, graph: str, argv: Sequence[str]) -> str:
    """Record the modules of others that the graph names.

    Returns:
      The command that goes on, where the directory alone will not.
    """
    from runner.graph import to_json

    modules = to_json.foreign_modules(graph)
    if not modules:
        return ""
    # Signed is what this process has made or read, never a file that it has not.
    if trusted.read(path, graph) is None and _is_saved(path, graph):
        trusted.write(path, modules, graph)
    return "" if trusted.read(path) else shlex.join(["runner", *argv[1:]])


def _is_saved(path: Path, graph: str) -> bool:
    with form.of_file(path / CONFIG):
        return form.read_text(path / CONFIG) == graph
    return False


def _refuse_foreign(path: Path) -> None:
    """Refuse a directory that holds files but no run."""
    with user_errors(path):
        if not path.exists() or (path / CONFIG).exists():
            return
        strangers = sorted(
            file.name
            for file in path.iterdir()
            if file.name not in _BEFORE_CONFIG
            and not file.name.startswith(atomic_files.TEMPORARY)
        )
    if strangers:
        raise UserError(
            f"--workdir={path}: holds no run (no {CONFIG}) but other files: "
            f"{', '.join(strangers[:3])}{', ...' if len(strangers) > 3 else ''}"
        )


def _refuse_changed(path: Path, text: str) -> None:
    from runner.graph import new_fields

    began = None
    with form.of_file(path / "config.txt"):
        began = form.read_text(path / "config.txt")
    if began is None:
        raise UserError(f"{path}: config.txt is missing, {CONFIG} is there")
    changes = new_fields.changes(began, text)
    if changes:
        with form.of_file(path / CONFIG):
            saved = form.load(form.read_text(path / CONFIG))
            changes = new_fields.changes(new_fields.with_spaces(began, saved), text)
    if changes:
        raise UserError(
            f"the graph changed since {path} began:\n{format_changes(changes)}\n"
            f"Give the new graph another --workdir; {_advice(path, changes)}"
        )


def _advice(path: Path, changes: Sequence[str]) -> str:
    """Return what to do: a run that is only to be longer can go on elsewhere."""
    alone = re.fullmatch(r"- num_steps: (\d+)\n\+ num_steps: (\d+)", "\n".join(changes))
    if alone and int(alone[1]) < int(alone[2]):
        call = f'longer(steps={alone[2]}, of="{path}")'
        return (
            "to make the run longer there: runner "
            f"--fdl_config_file={path / CONFIG} --fiddler='{call}' --workdir=NEW"
        )
    return "--gin flags may change, a graph not."


def _append_command(path: Path, argv: Sequence[str]) -> None:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    start = f"# {now} on {socket.gethostname()}, in {Path.cwd()}\n{shlex.join(argv)}\n"
    with confined.open_to_append(path) as file:
        file.write(start.encode(errors="backslashreplace"))


@contextlib.contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into `UserError`s that name `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--workdir={path}: {error.strerror or error}") from error
