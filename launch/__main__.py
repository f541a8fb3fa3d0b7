"""`python -m launch TARGET [OPTIONS] -- RUNNER_FLAGS`. `--help` says how."""

import sys
from collections.abc import Sequence

from runner.errors import UserError, nearest

HELP = """\
python -m launch TARGET [OPTIONS] -- RUNNER_FLAGS

  python -m launch local --processes=2 -- \\
    --fdl_config=configs/moe_zloss.py --sweep=lr --workdir=runs/lr
  python -m launch slurm --partition=gpu --time=8:00:00 --render_only -- ...

Freezes the graph of every unit below --workdir, then runs or submits what is not
finished. Without --sweep there is one unit. RUNNER_FLAGS are those of `runner`.

every target  --processes=N  --devices=N  --name=NAME  --env=KEY=VALUE  --render_only
local         --parallel=K
slurm         --partition= --time= --account= --running=K --sbatch=LINE
jobset        --image=* --volume=CLAIM:PATH* --accelerators=RESOURCE
              --node_selector=KEY=VALUE --restarts=N
xpk           --cluster=* --image=* --accelerators=TPU_TYPE* --slices=N --restarts=N
              --xpk=FLAG
skypilot      --image=* --bucket=URL* --accelerators=KIND --infra= --spot

* is needed. --render_only prints the text and submits nothing; the frozen directory is
written. docs/launching.md says what was run for real.
"""


def main(argv: Sequence[str]) -> int:
    """The exit code: 2 with one to three lines for a mistake of the user's."""
    arguments = list(argv[1:])
    if {"--help", "-h"} & set(_before(arguments)) or not arguments:
        print(HELP, end="")
        return 0 if arguments else 2
    try:
        return _obey(arguments, argv)
    except UserError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2


def _obey(arguments: Sequence[str], argv: Sequence[str]) -> int:
    from launch import command, options, targets

    name, *before = _before(arguments) or [""]
    if name not in targets.TARGETS:
        message = f"no target '{name}'" if name else "no target is given"
        raise UserError(f"{message}{nearest(name, targets.TARGETS)}")
    target = targets.TARGETS[name]
    target_options = options.read(target.options, before, target=name)
    runner_command = command.parse(arguments[len(before) + 2 :])
    spec = command.prepare(runner_command, argv, target_options)
    if target_options.render_only:
        print(target.render(spec, target_options), end="")
        return 0
    return target.run(spec, target_options)


def _before(arguments: Sequence[str]) -> list[str]:
    """The arguments before `--`."""
    arguments = list(arguments)
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


if __name__ == "__main__":
    sys.exit(main(sys.argv))
