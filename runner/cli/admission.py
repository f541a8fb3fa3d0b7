"""Modules that a command admits into graphs, beside those of the project."""

from pathlib import Path

from runner.cli.flags import Command
from runner.files import trusted


def admit(command: Command) -> None:
    """Admit the packages of `--trust=PACKAGE`, and the modules of the run's own record.

    Raises:
      UserError: a package is of Python itself.
    """
    trusted.admit_none()
    trusted.admit(command.packages)
    record = trusted.read(Path(command.workdir)) if command.workdir else None
    if record is not None:
        trusted.admit_record(record)
