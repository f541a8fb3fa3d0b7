"""The command `runner` on a sweep."""

from collections.abc import Sequence
from pathlib import Path

from runner.cli.flags import Command
from runner.errors import UserError
from runner.sweeps.frozen import SWEEP


def is_sweep(command: Command) -> bool:
    """Return True if a command names a sweep, or its work directory holds one."""
    if command.sweeps:
        return True
    return command.workdir is not None and (Path(command.workdir) / SWEEP).exists()


def run_sweep(command: Command, argv: Sequence[str]) -> None:
    """Freeze the sweep, or load the frozen one, and run its unfinished units.

    Raises:
      UserError: see `freeze`; or the command does not apply to a sweep.
      SystemExit: a unit failed (1), or a signal stopped the sweep.
    """
    # Flags that look at a sweep, or that do not apply to one.
    if command.action and not command.sweeps:
        raise UserError(
            f"{command.workdir}: holds a sweep; --{command.action.name} looks at one "
            f"run: --workdir={command.workdir}/units/NAME"
        )
    if command.action:
        return _list(command)
    _refuse_processes(command)
    if command.overrides and not command.base:
        raise UserError(
            f"{command.workdir}: the graphs of a sweep are frozen; "
            f"{command.overrides[0]} would need another --workdir"
        )

    from runner.sweeps import frozen, sequential, trust

    # A frozen sweep continues without reading its config file.
    if command.workdir and not command.base and not command.runtime:
        sweep = frozen.load(command.workdir)
        trust.require(sweep, command)
        return sequential.run(sweep)

    from runner.sweeps import freezing  # What it imports takes seconds.

    sequential.run(freezing.freeze(command, argv))


def _refuse_processes(command: Command) -> None:
    for flag in command.runtime:
        if flag.name.startswith("gin.distributed."):
            raise UserError(
                f"{flag}: a sweep runs each unit in one process; in several: "
                "python -m launch local --processes=N -- ..."
            )


def _list(command: Command) -> None:
    """Print every unit, and the lines of the graph that it changes."""
    from runner.cli import gin_flags
    from runner.sweeps import plan

    gin_flags.apply(command.runtime)
    units = plan.make(command).units
    for number, unit in enumerate(units, 1):
        print(f"unit {number}/{len(units)} {unit.label}")
        for line in unit.changes:
            print(f"  {line}")
