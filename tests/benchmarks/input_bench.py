"""Whether data keeps up with the student, at the size of `make demo`.

    make bench ONLY=input

An untrained teacher is recorded, plain and packed, and the offline student of
`configs/distill.py` learns from the records as in the demo. The run logs the share of
its time that it waits for a batch. Then the same rows, joined to their records and
checked, are read alone: in one thread, in random order. The targets: at most 1 % of the
time waiting, and records read 3 times as fast as the student takes them.
"""

import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from runner import main
from runner.cli import command_graph, flags
from runner.graph import build
from runner.writers import json_lines

ROOT = Path(__file__).resolve().parents[2]
STEPS, BATCH, ROUNDS = 120, 8, 5
WAITING_TARGET, SPEED_TARGET = 0.01, 3.0
RUNTIME = [
    f"--gin_file={ROOT / 'configs' / 'runtime' / 'cpu.gin'}",
    "--gin.loop.quiet=True",
]


def run() -> None:
    """Print both ratios of each coding."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command(
            folder / "teacher", "dense", "--fdl.num_steps=1", "--fdl.evaluations=[]"
        )
        for coding in ("plain", "packed"):
            print(f"records: {coding}")
            compare(folder, coding)


def compare(folder: Path, coding: str) -> None:
    """Record, teach and read with records of a coding."""
    records, workdir = folder / coding, folder / f"student-{coding}"
    command(
        records,
        "record_teacher",
        f"--fdl.data.num_rows={STEPS * BATCH}",
        f"--fdl.teacher.checkpoint={folder / 'teacher'}",
        f"--fdl.coding={coding}",
    )
    student = (
        f"--fiddler=steps({STEPS})",
        "--fdl.evaluations=[]",
        f"--fdl.teacher.records={records}",
    )
    command(workdir, "distill", *student)
    logged = json_lines.read(workdir / "metrics.jsonl")
    reading = read_alone(config("distill"), *student)
    training = BATCH * statistics.median(
        row["speed/steps_per_second"] for row in logged
    )
    waiting = statistics.mean(row["speed/waiting_for_data"] for row in logged)
    print(f"student     {training:8.0f} records/s")
    print(f"reading     {reading:8.0f} records/s, one thread")
    met = "met" if waiting <= WAITING_TARGET else "MISSED"
    print(f"waiting for data: {waiting:.2%}, target {WAITING_TARGET:.0%}: {met}")
    met = "met" if reading >= SPEED_TARGET * training else "MISSED"
    ratio = reading / training
    print(f"reading over training: {ratio:.0f}, target {SPEED_TARGET:.0f}: {met}")


def config(name: str) -> str:
    """The flag that names a config."""
    return f"--fdl_config={ROOT / 'configs' / name}.py"


def command(workdir: Path, name: str, *arguments: str) -> None:
    """One of the demo's commands, in this process, quietly."""
    argv = ["runner", config(name), *RUNTIME, *arguments, f"--workdir={workdir}"]
    with contextlib.redirect_stdout(io.StringIO()):
        code = main.main(argv)
    if code:
        raise SystemExit(code)


def read_alone(*arguments: str) -> float:
    """Rows a second: read, joined to their records, every one checked; the median."""
    parsed = flags.parse([*arguments, "--print_config"])
    rows = build.objects(command_graph.resolve(parsed)).prepare().rows
    rates = []
    for seed in range(ROUNDS):
        order = np.random.default_rng(seed).permutation(len(rows))
        begin = time.perf_counter()
        for numbers in order[: STEPS * BATCH].reshape(-1, BATCH):
            rows.rows(numbers)
        rates.append(STEPS * BATCH / (time.perf_counter() - begin))
    return statistics.median(rates)


if __name__ == "__main__":
    run()
