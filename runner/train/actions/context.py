"""All that a hook may need to know of its run."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from losses.core.terms import Item
from runner.checkpoint.best import Best
from runner.evaluation.diagnostics import Diagnosis
from runner.evaluation.keep_best import KeepBest
from runner.evaluation.sampling import Sample
from runner.hooks.step_hook import StepHook
from runner.runtime import Runtime
from runner.state.train_state import TrainState
from runner.train.actions.periodic import MetricsHook, StateHook
from runner.writers.clu import metric_writers
from runner.writers.stopwatch import Stopwatch
from runner.writers.terminal import Terminal


@dataclasses.dataclass
class Results:
    """Latest results of the hooks, which the report at the end of a run shows.

    Attributes:
      evaluations: Metrics by name of the evaluation; empty before the first.
      metrics: Of the newest step that was read; empty before the first.
      best: The best measurement; None where no checkpoint is kept for being the best.
      samples: Texts of the student; empty before the first.
    """

    evaluations: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    samples: list[Sample] = dataclasses.field(default_factory=list)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    best: Best | None = None


@dataclasses.dataclass
class Requests:
    """Requests of hooks to the one that saves checkpoints, which acts after them.

    Attributes:
      save: True where this step is to be saved.
    """

    save: bool = False

    def ask_to_save(self) -> None:
        """Ask for a checkpoint of this step."""
        self.save = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class HookContext:
    """A run, as its hooks see it.

    Attributes:
      config: The runtime settings.
      workdir: The work directory.
      num_steps: The last step of the run.
      start: The step that the run continues after; 0 for a fresh run.
      terms: Names of the loss terms, in the experiment's order.
      items: The terms and groups themselves.
      keep_best: The choice of the best checkpoint, if there is one.
      unit: The name of what has one target: `"token"`, `"image"`.
      units_per_step: How many of them are in a global batch.
      writer: Takes scalars, texts, images and histograms.
      stopwatch: Measures the time spent training.
      terminal: Shows lines and the progress bar.
      evaluations: By name, a function of the state that returns metrics; of all rows
        with `whole=True`.
      sample: Continues prompts with the state's student.
      diagnose: Measures the gradient of each term on the next batch.
      save: Saves a checkpoint of a step and its state.
      flops_per_step: Counts the matmul FLOPs of a step on all devices.
      results: Latest results, for the report at the end.
      requests: For a checkpoint out of turn.
      step_hooks: Of the graph.
    """

    config: Runtime
    workdir: Path
    num_steps: int
    start: int
    terms: Sequence[str]
    unit: str
    units_per_step: float
    writer: metric_writers.MetricWriter
    stopwatch: Stopwatch
    terminal: Terminal
    evaluations: Mapping[str, Callable[..., Mapping[str, float]]]
    sample: Callable[[TrainState], Sequence[Sample]]
    diagnose: Callable[[TrainState], Diagnosis]
    save: Callable[[int, TrainState], Any]
    flops_per_step: Callable[[], int]
    results: Results = dataclasses.field(default_factory=Results)
    items: Sequence[Item] = ()
    keep_best: KeepBest | None = None
    requests: Requests = dataclasses.field(default_factory=Requests)
    step_hooks: Sequence[StepHook] = ()

    def on_metrics(self, act: Callable[..., Any], *, every: int) -> MetricsHook:
        """Return a hook that calls `act(step, metrics=..., rows=...)`.

        Args:
          act: Reads the metrics of a step by name, and its rows' numbers.
          every: Steps between two calls; the last step of the run is always one.
        """
        return MetricsHook(act, every=every, last=self.num_steps, start=self.start)

    def on_state(self, act: Callable[..., Any], *, every: int, doing: str) -> StateHook:
        """Return a hook that calls `act(step, state=...)`.

        Args:
          act: Reads the train state.
          every: Steps between two calls; the last step of the run is always one.
          doing: A word for the terminal; the time counts as this, not as training.
        """
        return StateHook(
            act,
            every=every,
            last=self.num_steps,
            start=self.start,
            pause=self.pause(doing),
        )

    def pause(self, doing: str) -> Callable[..., Any]:
        """Return a function that pauses the stopwatch, and says `doing` meanwhile."""
        return functools.partial(self.stopwatch.paused, doing)
