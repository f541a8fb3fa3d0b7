"""Step time of two processes over that of one, on the same global batch.

    make bench ONLY=processes

One program over a mesh of two CPU devices: in one process, and in two with a device
each, which talk over gloo. What differs is the price of being apart: the messages of
every step through sockets, two loops, two input pipelines. Each pair runs in turn; the
seconds are those between the metrics of two steps, compilation and evaluation left out.
No target: on one machine nothing is gained by it.
"""

import json
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS, FIRST, ROUNDS = 100, 20, 5
EXPERIMENT = [
    "--fdl_config=configs/dense.py",
    "--fdl.student.num_layers=2",
    "--fdl.evaluations=[]",
    f"--fdl.num_steps={STEPS}",
    "--gin.loop.log_every=20",
    "--gin.loop.quiet=True",
]


def main() -> None:
    """Times one process and two in turn."""
    with tempfile.TemporaryDirectory() as folder:
        cache = f"--gin.compilation.cache={folder}/compiled"
        rounds = [
            (
                one(Path(folder) / f"one{i}", cache),
                two(Path(folder) / f"two{i}", cache),
            )
            for i in range(ROUNDS)
        ]
    ratios = [together / apart for together, apart in rounds]
    print(f"one process    {statistics.median(x for x, _ in rounds):8.0f} tokens/s")
    print(f"two processes  {statistics.median(x for _, x in rounds):8.0f} tokens/s")
    print(
        f"time, two / one{statistics.median(ratios):8.2f} "
        f"({min(ratios):.2f} - {max(ratios):.2f})"
    )
    print(f"medians of {ROUNDS} pairs, steps {FIRST} to {STEPS}")


def one(workdir: Path, *flags: str) -> float:
    """Targets a second of one process with two devices."""
    finish([started(workdir, *flags, "--gin.mesh.num_cpu_devices=2")])
    return speed(workdir)


def two(workdir: Path, *flags: str) -> float:
    """Targets a second of two processes with a device each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    finish(
        [
            started(
                workdir,
                *flags,
                f"--gin.distributed.coordinator=localhost:{port}",
                "--gin.distributed.processes=2",
                f"--gin.distributed.process={process}",
            )
            for process in range(2)
        ]
    )
    return speed(workdir)


def started(workdir: Path, *flags: str) -> subprocess.Popen:
    """A runner on the experiment, quietly."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "runner.main"),
            *EXPERIMENT,
            *flags,
            f"--workdir={workdir}",
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )


def finish(processes: list[subprocess.Popen]) -> None:
    """Waits for all; raises if one failed."""
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"a process failed: exit codes {codes}")


def speed(workdir: Path) -> float:
    """Targets a second after the first log: the harmonic mean of what was logged."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    found = [
        line["speed/tokens_per_second"]
        for line in lines
        if line["step"] > FIRST and "speed/tokens_per_second" in line
    ]
    return statistics.harmonic_mean(found)


if __name__ == "__main__":
    main()
