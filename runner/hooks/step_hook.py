"""The interface of a hook in a graph: an action of one's own beside the steps."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepContext:
    """A run after one of its steps, as a `StepHook` sees it.

    Attributes:
      step: Finished optimiser steps.
      num_steps: Those of the whole run.
      state: The train state: `state.params["student"]` is a mapping by the names of the
        model's attributes.
      metrics: Of this step, by name, as `metrics.jsonl` names them; empty before the
        first step.
      evaluations: Latest metrics on held-out data, by name of the evaluation.
      log: Writes numbers by name, wherever the run's own metrics go.
      save: Asks for a checkpoint of this step, once every hook has acted.
      stop: Ends the run after this step, for the reason that it is told: evaluations,
        result and report follow as after the last step.
    """

    step: int
    num_steps: int
    state: Any
    metrics: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, float]]
    log: Callable[[Mapping[str, float]], None]
    save: Callable[[], None]
    stop: Callable[[str], None]


class StepHook(abc.ABC):
    """An action beside the steps of a run, one of `Experiment.hooks`.

    It is part of the graph, so it may change the result: it may stop the run. What it
    decides by, beyond the step and what the context holds, is its `memory`, which is
    part of every checkpoint: a run that was killed then does what it would have done.
    Every step at which it is due waits for the device. With several processes, all of
    them call it, and only the first one's numbers are written.
    """

    @abc.abstractmethod
    def due(self, step: int) -> bool:
        """Return whether it acts after `step`; 0 is before the first one."""

    @abc.abstractmethod
    def __call__(self, context: StepContext) -> None:
        """Act."""

    def memory(self) -> Any:
        """Return, as JSON, what a resumed run hands to `recall`; None for nothing."""
        return None

    def recall(self, memory: Any) -> None:
        """Go on from what `memory` was when the checkpoint was saved."""
        del memory
