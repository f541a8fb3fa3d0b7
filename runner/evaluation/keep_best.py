"""The choice of a run's best checkpoint, as a graph declares it."""

import dataclasses
import math
from typing import Literal

from runner.evaluation.directions import more_is_better


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepBest:
    """A checkpoint that stays because it is the best by a held-out metric.

    The metric is measured over all rows of its evaluation every so many steps, and
    after the last one. Where it improves, the state is saved, and stays while no later
    one is better, whatever `loop.keep_checkpoints` is. The student before the first
    step is no candidate.

    Attributes:
      metric: `<evaluation>/<metric>`, as it is logged.
      every: Optimiser steps between two measurements.
      goal: Whether the best value is the lowest or the highest.
      patience: Measurements in a row without improvement after which the run ends;
        None runs every step.
      min_gain: An improvement is larger than this.

    Raises:
      ValueError: `metric` names no evaluation, a number is out of range, or the goal is
        the worst value of a metric of which more is better.
    """

    metric: str
    every: int
    goal: Literal["lowest", "highest"] = "lowest"
    patience: int | None = None
    min_gain: float = 0.0

    def __post_init__(self):
        evaluation, _, metric = self.metric.partition("/")
        if not evaluation or not metric:
            raise ValueError(
                "metric must be of an evaluation, such as 'held_out/loss', "
                f"got {self.metric!r}"
            )
        if self.goal not in ("lowest", "highest"):
            raise ValueError(f"goal must be 'lowest' or 'highest', got {self.goal!r}")
        if self.goal == "lowest" and more_is_better(metric):
            raise ValueError(
                f"goal of {self.metric!r} must be 'highest', for which more is better"
            )
        for name in ("every", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0.0 <= self.min_gain < math.inf:
            raise ValueError(
                f"min_gain must be finite, not negative, got {self.min_gain}"
            )

    @property
    def evaluation(self) -> str:
        """The name of the evaluation that measures it."""
        return self.metric.partition("/")[0]

    @property
    def measure(self) -> str:
        """The metric's name within its evaluation."""
        return self.metric.partition("/")[2]

    def due(self, step: int, last: int) -> bool:
        """Return whether it is measured after `step` of a run of `last` steps."""
        return step > 0 and (step == last or step % self.every == 0)

    def improves(self, value: float, best: float | None) -> bool:
        """Return whether `value` is better than the best so far; NaN never is."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        gain = best - value if self.goal == "lowest" else value - best
        return gain > self.min_gain
