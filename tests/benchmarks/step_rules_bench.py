"""What a step rule costs: the demo's student with and without, by turns.

    make bench ONLY=step_rules

`ConvergenceRadius` looks at one row of eight: two forward passes of an eighth of the
batch, beside a step of about three of the whole. Processor seconds of five steps each,
in one process. The target: 1.15.
"""

import functools
import statistics
import sys

import fiddle as fdl

from configs import dense
from runner import runtime, step_rules
from runner.train.setup import Setup
from tests.benchmarks import timed_step
from tests.benchmarks.timed_step import TimedStep

ROUNDS, STEPS, ROWS, TARGET = 7, 5, 1, 1.15


def main() -> None:
    """Prints temporaries and time of both, and the ratio."""
    steps = {
        "without": TimedStep(prepared(rule=False)),
        "with": TimedStep(prepared(rule=True)),
    }
    for step in steps.values():
        step.run()
    times = timed_step.in_turn(
        {name: functools.partial(step.run, STEPS) for name, step in steps.items()},
        ROUNDS,
    )
    for name, step in steps.items():
        print(
            f"{name:<8} {statistics.median(times[name]) / STEPS:.3f} s a step, "
            f"{step.scratch() / 1e6:.1f} MB of temporaries"
        )
    ratios = timed_step.ratios(times["with"], times["without"])
    ratio = statistics.median(ratios)
    print(f"ratio {timed_step.spread(ratios)}")
    if ratio > TARGET:
        sys.exit(f"above the target of {TARGET}")


def prepared(*, rule: bool) -> Setup:
    """The experiment of `configs/dense.py`, with a step rule or without."""
    cfg = dense.config.as_buildable()
    cfg.evaluations = []
    if rule:
        radius = fdl.Config(step_rules.ConvergenceRadius, rows=ROWS)
        cfg.optimizer = fdl.Config(step_rules.ruled, cfg.optimizer, {"radius": radius})
    return fdl.build(cfg).prepare(runtime.Runtime())


if __name__ == "__main__":
    main()
