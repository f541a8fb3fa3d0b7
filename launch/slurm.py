"""Slurm: one array job, a task of it for each unit, a node for each process.

`--signal` sends SIGUSR1 to the script two minutes before the time limit: it stops the
run, which saves a checkpoint, and puts the task back into the queue. A preempted task
is put back by Slurm itself (`--requeue`), if it has not ended before: a run that stops
without this script's doing keeps its node until Slurm takes it. A mistake of the user's
is not tried again.

SIGTERM goes to the tasks by `scancel`: srun itself answers it by killing them. A task
is named by the array and its index, for `$SLURM_JOB_ID` of the one that started last is
the number of the whole array. `scancel` without a signal goes to this script too, which
has to outlive it: Slurm kills the tasks once the script has ended.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from launch import options, shell
from launch.spec import Spec

FILE = "slurm.sh"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Options):
    """Options of the `sbatch` script.

    Attributes:
      partition: Slurm's `--partition`.
      time: Slurm's `--time`, the limit of one task.
      account: Slurm's `--account`.
      running: number of units that run at once; 0 for no limit.
      sbatch: any other directive, such as `--constraint=h100`; repeatable.
    """

    partition: str = ""
    time: str = ""
    account: str = ""
    running: int = 0
    sbatch: tuple[str, ...] = ()


def render(spec: Spec, options: Options) -> str:
    """An sbatch script."""
    lines = "\n".join(f"#SBATCH {line}" for line in _directives(spec, options))
    detect = " --gin.distributed.detect=True" if spec.processes > 1 else ""
    srun = f'srun --kill-on-bad-exit=1 {shlex.join(spec.program)} "$@"{detect}'
    return f"""\
#!/bin/bash
{lines}
set -u
{shell.export(spec)}{shell.choose(spec.units, "SLURM_ARRAY_TASK_ID")}
{shell.UNLESS_FINISHED}
task="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
limit=
trap 'limit=reached; scancel --signal=TERM "$task.0"' USR1
trap : TERM

{shell.awaited(srun, "step")}
if [ -e "$result" ]; then
  exit 0
fi
if [ -n "$limit" ] && [ "$code" -ne 2 ]; then
  echo "$unit: out of time; back into the queue"
  exec scontrol requeue "$task"
fi
if [ "$code" -eq 0 ]; then
  echo "$unit: stopped; waiting for Slurm"
  sleep 600
  exit {shell.STOPPED}
fi
exit "$code"
"""


def submissions(spec: Spec, file: Path) -> list[Sequence[str]]:
    """The commands that hand `file` over."""
    return [("sbatch", str(file))]


def _directives(spec: Spec, options: Options) -> list[str]:
    at_once = f"%{options.running}" if options.running else ""
    lines = [
        f"--job-name={spec.label}",
        f"--array=0-{len(spec.units) - 1}{at_once}",
        f"--nodes={spec.processes}",
        "--ntasks-per-node=1",
    ]
    if spec.devices:
        lines.append(f"--gpus-per-node={spec.devices}")
    for name in ("partition", "account", "time"):
        if value := getattr(options, name):
            lines.append(f"--{name}={value}")
    lines += [
        "--requeue",
        "--signal=B:USR1@120",
        "--open-mode=append",
        "--output=" + shlex.quote(f"{spec.path}/slurm-%A_%a.txt"),
        "--chdir=" + shlex.quote(str(spec.directory)),
        *options.sbatch,
    ]
    return lines
