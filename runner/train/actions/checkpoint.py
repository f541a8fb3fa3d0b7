"""The hook that saves checkpoints."""

from typing import Any

from runner.train.actions.context import HookContext
from runner.train.actions.periodic import StateHook


class Checkpoint(StateHook):
    """Save the state when due, when asked, and when a signal ends the run."""

    def __init__(self, context: HookContext):
        super().__init__(
            self._save,
            every=context.config.loop.checkpoint_every,
            last=context.num_steps,
            start=context.start,
            pause=context.pause("saving"),
        )
        self._context = context

    def due(self, step: int) -> bool:
        """Return whether a call after `step` will save."""
        asked = self._context.requests.save and step > self._latest
        return asked or super().due(step)

    def _save(self, step: int, *, state: Any) -> None:
        self._context.requests.save = False
        self._context.save(step, state)

    def on_stop(self, step: int, *, state: Any) -> None:
        """Save now, unless this step is saved already."""
        self.act_now(step, state=state)

    def on_end(self, step: int, *, state: Any) -> None:
        """Save the end, unless this step is saved already."""
        self.act_now(step, state=state)
