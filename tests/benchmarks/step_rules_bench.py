"""What a step rule costs: the demo's student with and without, by turns.

    make bench ONLY=step_rules

`ConvergenceRadius` looks at one row of eight: two forward passes of an eighth of the
batch, beside a step of about three of the whole. Processor seconds of five steps each,
in one process. The target: 1.15.
"""

import statistics
import sys
import time

import fiddle as fdl
import jax

from configs import dense
from runner import runtime, step_rules
from runner.train.setup import Setup

ROUNDS, STEPS, ROWS, TARGET = 7, 5, 1, 1.15


def main() -> None:
    """Prints temporaries and time of both, and the ratio."""
    plain, ruled = Timed(prepared(rule=False)), Timed(prepared(rule=True))
    rounds = [(plain.seconds(), ruled.seconds()) for _ in range(ROUNDS)]
    ratios = [b / a for a, b in rounds]
    for name, timed, own in zip(
        ("without", "with"), (plain, ruled), zip(*rounds, strict=True), strict=True
    ):
        print(
            f"{name:<8} {statistics.median(own) / STEPS:.3f} s a step, "
            f"{timed.scratch / 1e6:.1f} MB of temporaries"
        )
    ratio = statistics.median(ratios)
    print(f"ratio {ratio:.2f} ({min(ratios):.2f} - {max(ratios):.2f})")
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


class Timed:
    """A compiled step and its state.

    Attributes:
      scratch: bytes of the compiler's temporaries.
    """

    def __init__(self, setup: Setup):
        lowered = setup.step.compiled.lower(*setup.abstract_arguments())
        analysis = lowered.compile().memory_analysis()
        assert analysis is not None
        self.scratch = analysis.temp_size_in_bytes
        self._step = setup.step
        self._leaves = jax.tree.leaves(setup.initial_state())
        with setup.batches(start=0) as batches:
            self._batch = next(batches)
        self.seconds()

    def seconds(self) -> float:
        """Some steps, in processor seconds."""
        begin = time.process_time()
        for _ in range(STEPS):
            self._leaves, metrics = self._step(self._leaves, self._batch)
        jax.block_until_ready((self._leaves, metrics))
        return time.process_time() - begin


if __name__ == "__main__":
    main()
