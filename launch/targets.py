"""The targets by name, and how a rendered text is handed to its scheduler."""

import dataclasses
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from launch import jobset, local, options, skypilot, slurm, xpk
from launch.spec import Spec
from runner import atomic_files
from runner.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """One place to run on.

    Attributes:
      options: the class of its options.
      render: function of spec and options that returns the text, without side effects.
      run: function of spec and options that returns an exit code.
    """

    options: type[options.Options]
    render: Callable[[Spec, Any], str]
    run: Callable[[Spec, Any], int]


def _scheduler(module: Any) -> Target:
    def run(spec: Spec, options: Any) -> int:
        text = module.render(spec, options)
        file = spec.path / module.FILE
        return submit(text, file, module.submissions(spec, file))

    return Target(options=module.Options, render=module.render, run=run)


TARGETS = {
    "local": Target(options=local.Options, render=local.render, run=local.run),
    "slurm": _scheduler(slurm),
    "jobset": _scheduler(jobset),
    "xpk": _scheduler(xpk),
    "skypilot": _scheduler(skypilot),
}


def submit(text: str, file: Path, commands: Sequence[Sequence[str]]) -> int:
    """Write the text and run the commands.

    Returns:
      The first exit code that is not 0, or 0.

    Raises:
      UserError: the scheduler's program is not on this machine. The text is written.
    """
    atomic_files.write_atomic(file, text)
    print(f"wrote {file}", flush=True)
    for command in commands:
        if shutil.which(command[0]) is None:
            raise UserError(
                f"{command[0]} is not on this machine; where it is: {' '.join(command)}"
            )
        if code := subprocess.run(command, check=False).returncode:
            return code
    return 0
