"""The hook that shows progress on the terminal."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

from runner.train.actions.context import HookContext
from runner.train.actions.periodic import MetricsHook
from runner.writers import quantities
from runner.writers.bars import numbers, step_bar
from runner.writers.stopwatch import Rate

_LIVE_SECONDS, _PLAIN_SECONDS = 0.1, 10.0
_TOTAL = "learning/total"
_OPTIMIZER = {"lr": "optimizer/learning_rate", "gradient": "optimizer/gradient_norm"}
"""Metrics beside the terms, by the name to show them under."""


class Progress(MetricsHook):
    """A bar on a terminal; elsewhere a plain line every ten seconds.

    The bar has the weighted sum of the terms; a line below it each term without its
    weight, the learning rate and the norm of the gradient.
    """

    def __init__(
        self, context: HookContext, *, now: Callable[[], float] = time.monotonic
    ):
        """Show every step, if time for a new line has come by `now`."""
        super().__init__(self._show, every=1, start=context.start)
        self._terminal, self._stopwatch = context.terminal, context.stopwatch
        self._num_steps, self._terms = context.num_steps, context.terms
        self._unit, self._units_per_step = context.unit, context.units_per_step
        self._seconds = _LIVE_SECONDS if context.terminal.live else _PLAIN_SECONDS
        self._now = now
        self._drawn_at = -math.inf
        self._rate = Rate()
        self._first: tuple[int, float] | None = None  # Step and wall seconds.

    def _show(
        self, step: int, *, metrics: Mapping[str, float], rows: Sequence[int] = ()
    ) -> None:
        del rows
        # The rate follows every step, shown or not.
        rate = self._rate.update(step, self._stopwatch.elapsed)
        wall = self._stopwatch.wall
        self._first = self._first or (step, wall)

        now = self._now()
        if now - self._drawn_at < self._seconds and step != self._num_steps:
            return
        self._drawn_at = now
        total = {"loss": metrics[_TOTAL]} if _TOTAL in metrics else {}
        parts, live = self._parts(metrics), self._terminal.live
        bar = step_bar(
            step,
            self._num_steps,
            values=total if live else total | parts,
            speed=self._speed(rate),
            time_left=self._time_left(step, wall),
        )
        if live:
            self._terminal.show(bar, *filter(None, [numbers(parts)]))
        else:
            self._terminal.print(f"step {bar}")

    def _parts(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return what stands beside the total, by its name in the line."""
        names = {term: f"learning/{term}" for term in self._terms} | _OPTIMIZER
        return {name: metrics[key] for name, key in names.items() if key in metrics}

    def _speed(self, rate: float | None) -> str:
        if rate is None:
            return ""
        return f"{quantities.quantity(rate * self._units_per_step)} {self._unit}s/s"

    def _time_left(self, step: int, wall: float) -> str:
        """Return it from the pace so far, pauses included: it is the user's time."""
        if step == self._num_steps:
            return f"in {quantities.duration(wall)}"
        assert self._first is not None
        first_step, first_wall = self._first
        if step == first_step:
            return ""
        pace = (wall - first_wall) / (step - first_step)
        return f"{quantities.duration(pace * (self._num_steps - step))} left"
