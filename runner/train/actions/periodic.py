"""CLU's periodic action as a hook that a resumed run can rely on."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from runner.train.actions.hook import Hook
from runner.writers.clu import periodic_actions


class PeriodicHook(periodic_actions.PeriodicCallback, Hook):
    """Calls `act(step, **inputs)` when `step % every == 0` and at `last`.

    Due is a function of the step alone, so a resumed run acts exactly where the whole
    run would have: never at or before `start`, and at most once a step. (CLU's own
    `every_steps` raises when a step is skipped, as the loop skips those at which no
    hook reads the state.)
    """

    def __init__(
        self,
        act: Callable[..., Any],
        *,
        every: int,
        last: int | None = None,
        start: int = 0,
        pause: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ):
        """Wrap `act`.

        Args:
          act: Called with the step, and the inputs of the call by name.
          every: Steps between two calls; 0 is never, except at `last`.
          last: The last step of the run; None for nothing special about it.
          start: The step that a resumed run continues after.
          pause: A context in which to act; it keeps the time out of the speed.

        Raises:
          ValueError: `every` is negative.
        """
        if every < 0:
            raise ValueError(f"every must not be negative, got {every}")
        super().__init__(callback_fn=self._act_at)
        self._act = act
        self._every = every
        self._last = last
        self._pause = pause
        self._latest = start

    def due(self, step: int) -> bool:
        """Return whether a call after `step` will act."""
        if step <= self._latest:
            return False
        return step == self._last or (self._every > 0 and step % self._every == 0)

    def act_now(self, step: int, **inputs: Any) -> bool:
        """Act whether due or not, unless it has acted at this step or a later one."""
        if step <= self._latest:
            return False
        self._act_at(step, **inputs)
        return True

    def _should_trigger(self, step: int, t: float) -> bool:
        """Decide by `due`; CLU provides this method for subclasses to override."""
        del t
        return self.due(step)

    def _act_at(self, step: int, t: float = 0.0, **inputs: Any) -> None:
        del t
        with self._pause():
            self._act(step, **inputs)
        self._latest = step


class MetricsHook(PeriodicHook):
    """A periodic hook that reads the metrics of a step."""

    reads = "metrics"


class StateHook(PeriodicHook):
    """A periodic hook that reads the train state after a step."""

    reads = "state"
