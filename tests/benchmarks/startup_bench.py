"""How long looks at an experiment take, beside importing jax and flax alone.

    make bench ONLY=startup

Processor seconds of a child process, user and system, which a busy machine changes less
than the clock. The targets: `--help` in 0.6 s, `--print_config` in 2.5 s; and, whatever
the machine, `--print_config` in no more than 1.5 times the import, on the clock.
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
BASE = "import jax, flax"
HELP, LOOK = "runner --help", "runner --print_config"
CPU_TARGETS = {HELP: 0.6, LOOK: 2.5}
RATIO_TARGET = 1.5

RUNNER = [sys.executable, "-m", "runner.main"]
COMMANDS = {
    BASE: [sys.executable, "-c", BASE],
    LOOK: [*RUNNER, "--fdl_config=configs/moe_zloss.py", "--print_config"],
    HELP: [*RUNNER, "--help"],
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
        print(
            f"{name:<28}{spread(wall):>22}{spread(cpu):>22}{ratio(rounds, name):>8.2f}"
        )
    for name, target in CPU_TARGETS.items():
        cpu = statistics.median(times[name].cpu for times in rounds)
        print(verdict(f"{name}, cpu", cpu, target, " s"))
    print(verdict(f"{LOOK}, ratio", ratio(rounds, LOOK), RATIO_TARGET))


def ratio(rounds: list[dict[str, Times]], name: str) -> float:
    """Median over the rounds of clock seconds, over those of the import."""
    return statistics.median(times[name].wall / times[BASE].wall for times in rounds)


def verdict(what: str, value: float, target: float, unit: str = "") -> str:
    """`runner --help, cpu: 0.04 s, target 0.6 s: met`."""
    met = "met" if value <= target else "MISSED"
    return f"{what}: {value:.2f}{unit}, target {target}{unit}: {met}"


def timed(command: list[str]) -> Times:
    """Runs `command` once in the project's root, quietly; raises if it fails."""
    before, start = processor(), time.perf_counter()
    subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": ""},
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
