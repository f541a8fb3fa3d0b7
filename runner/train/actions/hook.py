"""The interface of an action of the training loop."""

import abc
from typing import Any, ClassVar, Literal


class Hook(abc.ABC):
    """An action that the loop takes beside stepping.

    `step` counts finished optimiser steps.

    Attributes:
      reads: `"metrics"`: the loop calls it after every step, as
        `hook(step, metrics=..., rows=...)`, with the step's metrics by name and the
        numbers of the batch's rows. `"state"`: the loop calls it as
        `hook(step, state=...)`, and only after steps at which some hook is due; it
        has to leave out those at which it is not itself.
      ended: True once the run is to end, whatever steps are left.
    """

    reads: ClassVar[Literal["metrics", "state"]]
    ended: bool = False

    @abc.abstractmethod
    def due(self, step: int) -> bool:
        """Return whether a call after `step` will act."""

    @abc.abstractmethod
    def __call__(self, step: int, **inputs: Any) -> bool:
        """Act if due; return whether it was."""

    def on_stop(self, step: int, *, state: Any) -> None:
        """Act on a signal that ends the run after `step`; by default do nothing."""
        del step, state

    def on_end(self, step: int, *, state: Any) -> None:
        """Act on the end of a run before its last step; by default do nothing."""
        del step, state

    def memory(self) -> Any:
        """Return, as JSON, what a resumed run hands to `recall`; None for nothing."""
        return None

    def recall(self, memory: Any) -> None:
        """Go on from what `memory` was when the checkpoint was saved."""
        del memory

    def close(self) -> None:
        """Finish open work at the end of the run; by default do nothing."""
        return
