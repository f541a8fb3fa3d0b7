"""From the flags of the runner to a spec: every unit's graph frozen."""

import sys
from collections.abc import Sequence
from pathlib import Path

from launch.options import Options
from launch.spec import Spec
from runner import sweeps
from runner.cli import flags
from runner.errors import UserError


def parse(arguments: Sequence[str]) -> flags.Command:
    """Parse the flags of the runner.

    Raises:
      UserError: a flag is wrong, or asks to look at a graph rather than to run one.
    """
    if not arguments:
        raise UserError("nothing to launch; give the flags of the run after --")
    command = flags.parse(arguments)
    if command.action is not None:
        raise UserError(
            f"--{command.action.name} does not run anything: give it to `runner` itself"
        )
    return command


def prepare(command: flags.Command, argv: Sequence[str], options: Options) -> Spec:
    """Freeze the units below the work directory, or load the frozen ones.

    Raises:
      UserError: see `Options.check` and `runner.sweeps.freeze`.
    """
    assert command.workdir is not None
    options.check(Path(command.workdir).absolute())
    frozen = sweeps.freeze(command, argv)
    return Spec(
        name=options.name or frozen.path.name,
        path=frozen.path,
        directory=Path.cwd(),
        python=sys.executable,
        units=frozen.units,
        processes=options.processes,
        devices=options.devices,
        environment=options.environment,
    )
