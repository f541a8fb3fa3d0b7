"""Row of the table: recording 64 entries a token, beside training steps of the shape.

Recorded, encoded and checked as the job does it, but for the writing of files.
"""

import itertools
import statistics
import sys
import time

from tests.benchmarks import timed_step
from tests.gpu import experiments, settings


def main(shape_name: str, length: int) -> None:
    """Print the row."""
    current = settings.current()
    shape, length = current.shape(shape_name), current.length(length)
    rows = current.rows(shape, length)
    recorder = experiments.recording(shape, length, rows=rows).recorder()
    setup = experiments.prepare(experiments.experiment(shape, length, rows=rows))
    step = timed_step.TimedStep(setup)
    step.run(2)
    batches = 4

    def record() -> None:
        for _ in recorder.records(range(batches * rows)):
            pass

    for _ in itertools.islice(recorder.records(range(rows)), 1):
        pass
    times: dict[str, list[float]] = {"recording": [], "training": []}
    for _ in range(current.rounds()):
        before = time.perf_counter()
        record()
        times["recording"].append((time.perf_counter() - before) / batches)
        before = time.perf_counter()
        step.run(4)
        times["training"].append((time.perf_counter() - before) / 4)
    rates = {
        name: rows * length / statistics.median(values)
        for name, values in times.items()
    }
    settings.row(
        f"recording 64 entries, {shape_name}, T = {length:,}",
        f"{rates['recording']:,.0f} tokens/s",
        f"{rates['training']:,.0f} tokens/s, training",
        settings.ratio(times, "recording", "training"),
        "1.0",
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
