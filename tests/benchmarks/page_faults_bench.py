"""A step with freed memory kept in the process, beside one that gives it back.

    make bench ONLY=page_faults

Child processes in turn, A B A B: the same steps of `configs/dense.py`, with the heap as
`runner` sets it (`runner.machine.heap`) and as glibc has it by default. Processor time
of a step after the tenth, page faults of the median step, and the resident memory at
its peak. The heap may still grow once after the tenth step, by one step's temporaries.
Target: at most 500 page faults a step.
"""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 5
STEPS = 20
TARGET = 500


def main() -> None:
    """Run both in turn."""
    forms = {"kept": "1", "given back": "0"}
    runs = {name: [] for name in forms}
    for _ in range(PAIRS):
        for name, kept in forms.items():
            runs[name].append(child(kept))
    print(f"{'median (min - max)':<20}{'ms a step':>22}{'faults a step':>28}{'MB':>16}")
    for name, rows in runs.items():
        columns = [spread([row[i] for row in rows]) for i in range(3)]
        print(f"{name:<20}{columns[0]:>22}{columns[1]:>28}{columns[2]:>16}")
    pairs = zip(*runs.values(), strict=True)
    print(f"{'time, kept over not':<42}{spread([a[0] / b[0] for a, b in pairs], 2)}")
    faults = max(row[1] for row in runs["kept"])
    print(
        f"{'met' if faults <= TARGET else 'MISSED'}: {faults:,.0f} of {TARGET} faults"
    )


def child(kept: str) -> list[float]:
    """Milliseconds of processor a step, page faults a step, resident megabytes."""
    command = [sys.executable, __file__, kept]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = subprocess.run(
        command, check=True, env=environment, capture_output=True, text=True
    ).stdout
    return [float(x) for x in output.split()[-3:]]


def spread(values: list[float], digits: int = 0) -> str:
    """Median, and the range in brackets."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} - {high:,.{digits}f})"


def measure() -> None:
    """Train in this process, and print the three numbers."""
    import jax

    from configs import dense

    setup = dense.config().prepare()
    leaves = jax.tree.leaves(setup.initial_state())
    faults, start = [], resource.getrusage(resource.RUSAGE_SELF)
    end = start
    with setup.batches(start=0) as batches:
        for step in range(10 + STEPS):
            if step == 10:
                start = resource.getrusage(resource.RUSAGE_SELF)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            leaves, _ = setup.step(leaves, next(batches))
            jax.block_until_ready(leaves)
            end = resource.getrusage(resource.RUSAGE_SELF)
            faults.append(end.ru_minflt - before)
    user, system = end.ru_utime - start.ru_utime, end.ru_stime - start.ru_stime
    middle = statistics.median(faults[10:])
    print(1e3 * (user + system) / STEPS, middle, end.ru_maxrss / 1e3)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        if sys.argv[1] == "1":
            from runner.machine import heap

            heap.keep_pages()
        measure()
