"""A training step of ours: run by `steps.py`, answers as `torch_step.py` does."""

import os
import sys
import tempfile
from pathlib import Path

from runner.machine import heap, schedule
from tests.benchmarks.timed_step import TimedStep
from tests.gpu import experiments, settings


def main(kind: str, shape_name: str, length: int) -> None:
    """Serve steps until the input ends."""
    # As the command does it, whatever the device.
    heap.keep_pages()
    schedule.prefer_memory(os.environ)
    import jax

    current = settings.current()
    shape, length = current.shape(shape_name), current.length(length)
    cfg = experiments.experiment(shape, length, rows=current.rows(shape, length))
    with tempfile.TemporaryDirectory(prefix="retort-gpu-") as folder:
        if kind == "online":
            experiments.teach_online(cfg, shape)
        if kind == "offline":
            experiments.teach_offline(cfg, shape, Path(folder) / "records")
        setup = experiments.prepare(cfg)
        step = TimedStep(setup)
    step.run(2)
    form = setup.modules.abstract_student().trunk_form(length)
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    print(f"jax {jax.__version__}, {form}, {memory / 2**30:.1f} GiB", flush=True)
    for line in sys.stdin:
        steps = int(line)
        print(steps * step.seconds(steps), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
