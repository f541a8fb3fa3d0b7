"""The flags that show a graph and train nothing."""

import pathlib

import fiddle as fdl

from runner.cli import command_graph
from runner.cli.flags import Command, Flag
from runner.errors import UserError
from runner.graph import describe, read


def at(command: Command, cfg: fdl.Buildable, action: Flag) -> None:
    """Carry out `--print_config`, `--diff`, `--dry_run` or `--graph`."""
    if action.name == "print_config":
        print(describe.text(cfg), end="")
    elif action.name == "diff":
        other, _ = read.read(action.value)
        for line in describe.changes(describe.text(other), describe.text(cfg)):
            print(line)
    elif action.name == "graph":
        _draw(cfg, action)
    else:
        job = command_graph.job(command, cfg, dry=True)

        from runner import dry_run
        from runner.cli import gc_freeze

        gc_freeze.release()
        dry_run.report(job)


def _draw(cfg: fdl.Buildable, action: Flag) -> None:
    from runner.graph import drawing

    path = pathlib.Path(action.value)
    if not path.parent.is_dir():
        raise UserError(f"{action}: no such directory {path.parent}")
    try:
        path.write_text(drawing.svg(cfg))
    except OSError as error:
        raise UserError(f"{action}: {error.strerror}") from None
    print(path)
