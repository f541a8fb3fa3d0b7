"""Operations of a training step that take most of its time.

    make bench ONLY=step_profile

`configs/dense.py` on one core, 20 steps under JAX's profiler: for each kind of
operation of the compiled program, milliseconds a step, calls, shape and origin. An
operation's time is the mean of the fastest third of its calls, since other processes
stretch the rest; those of more than a few milliseconds stay so on a busy machine.
"""

import collections
import glob
import os
import re
import statistics
import tempfile

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # XLA starts a thread a core

import fiddle as fdl  # noqa: E402 - jax counts the cores when it is imported
import jax  # noqa: E402

from configs import dense  # noqa: E402
from runner import runtime  # noqa: E402
from runner.machine import heap  # noqa: E402
from tests.benchmarks import timed_step  # noqa: E402

STEPS, ROWS = 20, 24
CONTAINERS = ("while", "call", "conditional")
OPERATION = re.compile(r'%?([\w.-]+) = (\w+\[[\d,]*\]).*op_name="([^"]*)"')


def main() -> None:
    """Print one line a kind of operation."""
    heap.keep_pages()
    cfg = dense.config.as_buildable()
    cfg.evaluations = []
    setup = fdl.build(cfg).prepare(runtime.Runtime())
    step = timed_step.TimedStep(setup)
    origins = {
        match[1]: (match[2], match[3])
        for match in map(OPERATION.search, step.program().as_text().splitlines())
        if match
    }

    step.run(3)
    print(f"{1e3 * step.seconds(STEPS):.0f} ms of processor a step")
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            step.run(STEPS)
        show(calls(folder), origins)


def calls(folder: str) -> dict[str, list[float]]:
    """Milliseconds of every call, fastest first, by operation."""
    (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
    times = collections.defaultdict(list)
    for plane in jax.profiler.ProfileData.from_file(path).planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name and not name.startswith(CONTAINERS):
                    times[name].append(event.duration_ns / 1e6)
    return {name: sorted(values) for name, values in times.items()}


def show(times: dict[str, list[float]], origins: dict[str, tuple[str, str]]) -> None:
    """Print the dearest kinds: operations of one shape and origin."""
    sums, counts = collections.Counter(), collections.Counter()
    for name, values in times.items():
        shape, origin = origins.get(name, ("", re.sub(r"[.\d]+$", "", name)))
        kind = shape, origin.removeprefix("jit(_on_leaves)/")[-60:]
        count = len(values) / STEPS
        sums[kind] += count * statistics.mean(values[: max(1, len(values) // 3)])
        counts[kind] += count
    print(f"{sum(sums.values()):.0f} ms of operations a step, among them")
    for kind, milliseconds in sums.most_common(ROWS):
        print(f"{milliseconds:6.2f} ms{counts[kind]:5.0f} x  {'  '.join(kind)}")


if __name__ == "__main__":
    main()
