"""The flags that show a graph and train nothing."""

from pathlib import Path

import fiddle as fdl

from runner.cli import command_graph
from runner.cli.flags import Command, Flag
from runner.errors import UserError
from runner.files import form
from runner.graph import describe, new_fields, read, renames, source
from runner.workdir import opening


def at(command: Command, cfg: fdl.Buildable, action: Flag) -> None:
    """Carry out `--print_config`, `--dry_run`, `--graph` or `--evaluate`."""
    if action.name == "print_config":
        print(describe.text(cfg), end="")
    elif action.name == "graph":
        _draw(cfg, action)
    elif action.name == "evaluate":
        _evaluate(command, cfg, action)
    else:
        job = command_graph.job(command, cfg, dry=True)

        from runner import dry_run
        from runner.cli import gc_freeze

        gc_freeze.release()
        dry_run.report(job)


def _evaluate(command: Command, cfg: fdl.Buildable, action: Flag) -> None:
    assert command.workdir is not None
    path = opening.saved_config(command.workdir).parent
    job = command_graph.job(command, cfg, resumed=True)

    from runner.cli import gc_freeze
    from runner.measuring import run
    from runner.workdir.workdir import Workdir

    first = job.init_distributed() == 0
    gc_freeze.release()
    run.evaluate(job, Workdir(path.absolute(), writes=first), action.value)


def look_up(command: Command, action: Flag) -> None:
    """Carry out `--list` or `--describe`.

    Raises:
      UserError: there is no such kind or name, or the config file fails.
    """
    from runner.cli import catalog

    file, _ = source.split(command.config or "")
    module = source.load(file) if file else None
    if action.name == "list":
        catalog.show(action.value, module)
    else:
        catalog.explain(action.value, module)


def compare(command: Command, action: Flag) -> None:
    """Print what changes from the graph of `--diff` to that of the command.

    Raises:
      UserError: a graph is missing, damaged or changed wrongly.
    """
    # A run alone is told by its own lines, whatever its graph names.
    changed = command.base or command.overrides
    now = None if changed else _as_it_began(Path(command.workdir or ""))
    if now is None:
        now = describe.text(command_graph.resolve(command))
    else:
        now = renames.in_text(now)
    # The other graph: a run's, or one that is read.
    began = _as_it_began(Path(action.value))
    if began is not None:
        lines = new_fields.changes(began, now)
    else:
        saved = action.value
        if Path(saved).is_dir():
            saved = str(opening.saved_config(saved, flag="diff"))
        other, _ = read.read(saved)
        lines = describe.changes(describe.text(other), now)
    for line in lines:
        print(line)


def _as_it_began(path: Path) -> str | None:
    """Return the graph of the run in `path` as it was described; None without a run."""
    directory = path.parent if path.name == opening.CONFIG else path
    text = directory / "config.txt"
    if not (directory / opening.CONFIG).is_file() or not text.is_file():
        return None
    with form.of_file(text):
        return form.read_text(text)
    return None


def _draw(cfg: fdl.Buildable, action: Flag) -> None:
    from runner.cli import drawing

    path = Path(action.value)
    if not path.parent.is_dir():
        raise UserError(f"{action}: no such directory {path.parent}")
    try:
        path.write_text(drawing.svg(cfg))
    except OSError as error:
        raise UserError(f"{action}: {error.strerror}") from None
    print(path)
