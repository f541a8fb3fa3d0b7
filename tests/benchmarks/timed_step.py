"""Training steps by the clock, for the benchmarks that set them side by side.

On a CPU the clock is processor time, which other programs slow less; on a device of its
own it is the wall's.
"""

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from runner.train.setup import Setup


class TimedStep:
    """The step of an experiment, compiled, with its state and one batch.

    Attributes:
      setup: of the experiment.
      batch: that every step takes; it may be changed before the first.
    """

    def __init__(self, setup: Setup):
        self.setup = setup
        self._leaves = jax.tree.leaves(setup.initial_state())
        with setup.batches(start=0) as batches:
            self.batch: dict[str, Any] = next(batches)

    def program(self) -> Any:
        """Return the compiled step, as XLA describes it."""
        lowered = self.setup.step.compiled.lower(*self.setup.abstract_arguments())
        return lowered.compile()

    def scratch(self) -> int:
        """Return the bytes of the compiler's temporaries."""
        analysis = self.program().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    def run(self, steps: int = 1) -> None:
        """Take steps, and wait for the last."""
        metrics = None
        for _ in range(steps):
            self._leaves, metrics = self.setup.step(self._leaves, self.batch)
        jax.block_until_ready((self._leaves, metrics))

    def seconds(self, steps: int = 1) -> float:
        """Return the seconds of a step, the mean of some."""
        return seconds(lambda: self.run(steps)) / steps


def seconds(run: Callable[[], object]) -> float:
    """Return the seconds of a call, which waits for what it computes."""
    before = _clock()
    run()
    return _clock() - before


def in_turn(
    forms: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of each form, a round of all after the other."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, run in forms.items():
            times[name].append(seconds(run))
    return times


def ratios(values: list[float], base: list[float]) -> list[float]:
    """Return by how much each is above that of the same round."""
    return [a / b for a, b in zip(values, base, strict=True)]


def spread(values: list[float]) -> str:
    """`median (min - max)`."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def _clock() -> float:
    """Processor seconds of this process; those of the wall beside another device."""
    if jax.default_backend() != "cpu":
        return time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
