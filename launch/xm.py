"""XManager's launch script: a work unit for each unit of a sweep, on this machine.

    xmanager launch launch/xm.py -- --processes=2 \
      --fdl_config=configs/moe_zloss.py --sweep=lr --workdir=runs/lr

Takes the flags of `runner`, and `--processes` and `--devices` of `launch local`. The
graphs are frozen before the experiment is made. A unit is a work unit, and each of its
processes a job of it: a real process (`xm_local.Local`), no container, no cloud. Units
run one after another, since they share the machine; finished ones are left out. Needs
`pip install -e '.[xm]'`.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

from absl import app
from absl import flags as absl_flags
from xmanager import xm, xm_local  # pyright: ignore[reportMissingImports] (the extra)

from launch import command, options, processes
from launch.spec import Spec
from runner import sweeps
from runner.errors import UserError

_THEIRS = frozenset(absl_flags.FLAGS)
_OPTIONS = frozenset({"processes", "devices"})


def main(argv: Sequence[str]) -> None:
    """The entry point, called by XManager once it has read its own flags."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        arguments = ours(sys.argv)
        before = [argument for argument in arguments if _name(argument) in _OPTIONS]
        flags = [argument for argument in arguments if _name(argument) not in _OPTIONS]
        chosen = options.read(options.Options, before, target="launch/xm.py")
        spec = command.prepare(command.parse(flags), sys.argv, chosen)
    except UserError as error:
        print(f"launch: {error}", file=sys.stderr)
        sys.exit(2)
    # XManager says again at the end which processes failed; the table says it too.
    with contextlib.suppress(RuntimeError):
        asyncio.run(run(spec))
    sweeps.summarize(sweeps.load(spec.path))
    left = [unit.name for unit in spec.units if not unit.finished]
    if left:
        print(f"launch: not finished: {', '.join(left)}", file=sys.stderr)
        sys.exit(1)


async def run(spec: Spec) -> None:
    """Create one experiment and run its work units one after another."""
    async with xm_local.create_experiment(experiment_title=spec.name) as experiment:
        # One executable, this interpreter, for all units.
        [executable] = experiment.package(
            [
                xm.Packageable(
                    executable_spec=xm.Binary(path=sys.executable),
                    executor_spec=xm_local.Local.Spec(),
                )
            ]
        )
        for unit in spec.units:
            if unit.finished:
                print(f"{unit.name}: finished", flush=True)
                continue
            # A run of an earlier launch may still save its checkpoint.
            while unit.in_use:
                await asyncio.sleep(0.2)
            jobs = _jobs(spec, unit, executable)
            alone = len(jobs) == 1
            work_unit = await experiment.add(jobs[0] if alone else _group(jobs))
            with contextlib.suppress(xm.ExperimentUnitError):
                await work_unit.wait_until_complete()


def _jobs(spec: Spec, unit: sweeps.Unit, executable: Any) -> list[Any]:
    """Return a job for each process of a unit."""
    numbered = enumerate(processes.commands(spec, unit))
    return [
        xm.Job(
            executable=executable,
            executor=xm_local.Local(),
            name=f"{unit.name}-{number}" if number else unit.name,
            # The executable is the interpreter itself, so it is not an argument.
            args=xm.SequentialArgs.from_collection(command[1:]),
            env_vars=processes.visible(spec, number),
        )
        for number, command in numbered
    ]


def _group(jobs: Sequence[Any]) -> Any:
    return xm.JobGroup(**{f"process_{i}": job for i, job in enumerate(jobs)})


def ours(argv: Sequence[str]) -> list[str]:
    """The arguments that are for this script: all but those that absl knew before."""
    after = list(argv[argv.index("--") + 1 :] if "--" in argv else argv[1:])
    return [argument for argument in after if _name(argument) not in _THEIRS]


def _name(argument: str) -> str:
    return argument.partition("=")[0].removeprefix("--")


def _declare(argv: Sequence[str]) -> None:
    """Tell absl, which refuses what it does not know, of the runner's flags.

    They have no fixed names (`--fdl.losses.z_loss.weight=0`), so these are declared
    that were given.
    """
    for argument in ours(argv):
        if argument.startswith("--") and _name(argument) not in absl_flags.FLAGS:
            absl_flags.DEFINE_multi_string(_name(argument), [], "a flag of the runner")


_declare(sys.argv)

if __name__ == "__main__":
    app.run(main)
