"""A periodic action that a resumed run can rely on."""

from collections.abc import Callable
from typing import Any

from runner.writers.clu import periodic_actions


class Action(periodic_actions.PeriodicCallback):
    """Calls `callback(step, **kwargs)` when `step % every == 0` and at `last`.

    `step` counts finished optimiser steps. Due is a function of the step alone, so a
    resumed run acts exactly where the whole run would have: never at or before
    `start`, the step it continues after, and at most once a step. (CLU's own
    `every_steps` fires on the first call after a resume, and raises when a step is
    skipped.)

    every: 0 is never, except at `last`.
    last:  the last step of the run; None for nothing special about it.
    """

    def __init__(
        self,
        callback: Callable[..., Any],
        *,
        every: int,
        last: int | None = None,
        start: int = 0,
    ):
        if every < 0:
            raise ValueError(f"every must not be negative, got {every}")
        super().__init__(callback_fn=callback)
        self._every = every
        self._last = last
        self._previous_step = start

    def due(self, step: int) -> bool:
        """Whether a call at `step` will act."""
        if step <= self._previous_step:
            return False
        return step == self._last or (self._every > 0 and step % self._every == 0)

    def force(self, step: int, **kwargs) -> bool:
        """Acts whether due or not, unless it already has at this step."""
        if step <= self._previous_step:
            return False
        self._apply(step, 0.0, **kwargs)
        self._after_apply(step, 0.0)
        return True

    def _init_and_check(self, step: int, t: float) -> None:
        """CLU's check that no step is skipped: dropped."""

    def _should_trigger(self, step: int, t: float) -> bool:
        return self.due(step)

    def _apply(self, step: int, t: float, **kwargs) -> None:
        self._cb_results.append(self._cb_fn(step, **kwargs))
