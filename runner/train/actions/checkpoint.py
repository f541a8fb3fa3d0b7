"""The hook that saves checkpoints."""

from typing import Any

from runner.train.actions.context import HookContext
from runner.train.actions.periodic import StateHook


class Checkpoint(StateHook):
    """Save the state when due, and out of turn when a signal ends the run."""

    def __init__(self, context: HookContext):
        super().__init__(
            lambda step, *, state: context.save(step, state),
            every=context.config.loop.checkpoint_every,
            last=context.num_steps,
            start=context.start,
            pause=context.pause("saving"),
        )

    def on_stop(self, step: int, *, state: Any) -> None:
        """Save now, unless this step is saved already."""
        self.act_now(step, state=state)

    def on_end(self, step: int, *, state: Any) -> None:
        """Save the end, unless this step is saved already."""
        self.act_now(step, state=state)
