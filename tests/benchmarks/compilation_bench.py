"""How much sooner a second start trains, when the first has left its compiled programs.

    make bench ONLY=compilation

From the command to the first finished step of `configs/moe_zloss.py`, whose metrics are
in `metrics.jsonl`. Fresh processes: first with an empty `compilation.cache`, then with
what that start left. The corpus is read, its tokenizer trained, and the bytecode of all
modules written before either; where it is not (`PYTHONDONTWRITEBYTECODE`), every start
takes 0.4 s more.
There is no evaluation: that of the untrained student measures 1,300 rows, which takes
longer than all else. The target: the second in 0.25 of the first's.
"""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ROUNDS, TARGET, PATIENCE = 5, 0.25, 600.0
COMMAND = [
    *(sys.executable, "-m", "runner.main", "--fdl_config=configs/moe_zloss.py"),
    *("--gin_file=configs/runtime/cpu.gin", "--gin.loop.log_every=1"),
    "--fdl.evaluations=()",
]


class Times(NamedTuple):
    """Seconds up to the first finished step: on the clock, and of processor."""

    wall: float
    cpu: float


def main() -> None:
    """Pairs of starts, each pair with a directory of its own."""
    with tempfile.TemporaryDirectory() as folder:
        first_step(Path(folder), compiled=None)  # the corpus
    pairs = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            pairs.append([first_step(Path(folder), compiled="kept") for _ in range(2)])
    print(f"{'seconds to the first step':<28}{'wall, (min - max)':>22}{'cpu':>22}")
    for name, times in zip(
        ("empty cache", "second start"), zip(*pairs, strict=True), strict=True
    ):
        wall, cpu = zip(*times, strict=True)
        print(f"{name:<28}{spread(wall):>22}{spread(cpu):>22}")
    for kind in Times._fields:
        ratio = statistics.median(getattr(b, kind) / getattr(a, kind) for a, b in pairs)
        met = "met" if ratio <= TARGET else "MISSED"
        print(f"second over first, {kind}: {ratio:.2f}, target {TARGET}: {met}")


def first_step(folder: Path, *, compiled: str | None) -> Times:
    """Starts a run of its own, and kills it once its first step is finished."""
    flags = [f"--gin.compilation.cache={folder / compiled}"] if compiled else []
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        before, begin = processor(), time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, *flags, f"--workdir={workdir}"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": ""},
        )
        while not finished(Path(workdir) / "metrics.jsonl"):
            if process.poll() is not None or time.perf_counter() - begin > PATIENCE:
                process.kill()
                raise RuntimeError("the run ended, or took too long, before a step")
            time.sleep(0.01)
        wall = time.perf_counter() - begin
        process.send_signal(signal.SIGKILL)
        process.wait()
        return Times(wall=wall, cpu=processor() - before)


def finished(metrics: Path) -> bool:
    """Whether a step is logged."""
    if not metrics.exists():
        return False
    lines = metrics.read_text().split("\n")[:-1]
    return any(json.loads(line)["step"] > 0 for line in lines)


def processor() -> float:
    """Processor seconds of all finished children so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def spread(values: tuple[float, ...]) -> str:
    """`median (min - max)`."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} - {max(values):.1f})"


if __name__ == "__main__":
    main()
