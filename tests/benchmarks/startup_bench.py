"""How long a look at an experiment takes, beside importing jax and flax alone.

    make bench ONLY=startup

The target: `--print_config` in no more than 1.5 times the import.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 7
TARGET = 1.5
BASE = "import jax, flax"
CONFIG = "--fdl_config=configs/moe_zloss.py"

RUNNER = [sys.executable, "-m", "runner.main"]
COMMANDS = {
    BASE: [sys.executable, "-c", BASE],
    "runner --print_config": [*RUNNER, CONFIG, "--print_config"],
    "runner --help": [*RUNNER, "--help"],
}


class Times(NamedTuple):
    """Seconds of one child process: on the clock, and of processor."""

    wall: float
    cpu: float


def main() -> None:
    """Times the commands in turn, so that a busy machine is busy for all of them."""
    for command in COMMANDS.values():
        timed(command)  # compiles bytecode, fills the file cache
    rounds = [
        {name: timed(command) for name, command in COMMANDS.items()}
        for _ in range(ROUNDS)
    ]
    print(f"{'seconds, median (min - max)':<28}{'wall':>22}{'cpu':>22}{'ratio':>8}")
    for name in COMMANDS:
        wall = [times[name].wall for times in rounds]
        cpu = [times[name].cpu for times in rounds]
        ratio = statistics.median(
            times[name].wall / times[BASE].wall for times in rounds
        )
        print(f"{name:<28}{spread(wall):>22}{spread(cpu):>22}{ratio:>8.2f}")
    print(f"target for --print_config: a wall ratio of {TARGET} or less")


def timed(command: list[str]) -> Times:
    """Runs `command` once in the project's root, quietly; raises if it fails."""
    before, start = processor(), time.perf_counter()
    subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    return Times(wall=time.perf_counter() - start, cpu=processor() - before)


def processor() -> float:
    """Processor seconds of all finished children so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def spread(values: list[float]) -> str:
    """`median (min - max)`."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


if __name__ == "__main__":
    main()
