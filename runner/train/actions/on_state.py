"""Actions that are handed the train state: they read it, and pause the clock."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from runner.train.actions.periodic import Action
from runner.writers.clu import metric_writers
from runner.writers.stopwatch import Stopwatch


class StateAction(Action):
    """An action on the state; its seconds count as `doing`, not as training."""

    doing: str

    def __init__(
        self,
        callback: Callable[..., Any],
        *,
        every: int,
        last: int | None = None,
        start: int = 0,
        stopwatch: Stopwatch,
    ):
        super().__init__(callback, every=every, last=last, start=start)
        self._stopwatch = stopwatch

    def _apply(self, step: int, t: float, **kwargs) -> None:
        with self._stopwatch.paused(self.doing):
            super()._apply(step, t, **kwargs)


class Evaluate(StateAction):
    """Runs every evaluation on the state and writes `<name>/<metric>`.

    evaluations: by name, a function of the state that returns metrics.
    results:     the latest metrics, by name of the evaluation.
    """

    doing = "evaluating"

    def __init__(
        self,
        evaluations: Mapping[str, Callable[[Any], Mapping[str, float]]],
        *,
        writer: metric_writers.MetricWriter,
        every: int,
        last: int | None = None,
        start: int = 0,
        stopwatch: Stopwatch,
    ):
        super().__init__(
            self._evaluate, every=every, last=last, start=start, stopwatch=stopwatch
        )
        self._evaluations = dict(evaluations)
        self._writer = writer
        self.results: dict[str, dict[str, float]] = {}

    def _evaluate(self, step: int, *, state: Any, **_: Any) -> None:
        for name, evaluation in self._evaluations.items():
            metrics = {k: float(v) for k, v in evaluation(state).items()}
            self.results[name] = metrics
            scalars = {f"{name}/{metric}": value for metric, value in metrics.items()}
            self._writer.write_scalars(step, scalars)


class Checkpoint(StateAction):
    """Calls `save(step, state)`; `force` saves out of turn, on SIGTERM."""

    doing = "saving"

    def __init__(
        self,
        save: Callable[[int, Any], Any],
        *,
        every: int,
        last: int | None = None,
        start: int = 0,
        stopwatch: Stopwatch,
    ):
        super().__init__(
            lambda step, *, state, **_: save(step, state),
            every=every,
            last=last,
            start=start,
            stopwatch=stopwatch,
        )


@dataclasses.dataclass(frozen=True)
class Sample:
    """What the model made of a prompt."""

    prompt: str
    text: str


class Samples(StateAction):
    """Writes texts the model continues, as `samples/<i>`.

    generate: a function of the state.
    latest:   what it last returned.
    """

    doing = "sampling"

    def __init__(
        self,
        generate: Callable[[Any], Sequence[Sample]],
        *,
        writer: metric_writers.MetricWriter,
        every: int,
        last: int | None = None,
        start: int = 0,
        stopwatch: Stopwatch,
    ):
        super().__init__(
            self._sample, every=every, last=last, start=start, stopwatch=stopwatch
        )
        self._generate = generate
        self._writer = writer
        self.latest: list[Sample] = []

    def _sample(self, step: int, *, state: Any, **_: Any) -> None:
        self.latest = list(self._generate(state))
        texts = {
            f"samples/{i}": f"{sample.prompt}{sample.text}"
            for i, sample in enumerate(self.latest)
        }
        self._writer.write_texts(step, texts)


class Profile(Action):
    """Traces `num_steps` steps with the JAX profiler, after step `first`.

    Called after each step is dispatched; the trace begins when step `first` has
    finished and ends when step `first + num_steps` has. A run that continues past
    `first` traces nothing. TensorBoard's profile plug-in and Perfetto read the
    directory.
    """

    def __init__(
        self, logdir: str | Path, *, first: int, num_steps: int, start: int = 0
    ):
        super().__init__(self._toggle, every=0, start=start)
        self._logdir = str(logdir)
        self._first = first
        self._num_steps = num_steps
        self._running = False

    def due(self, step: int) -> bool:
        if step <= self._previous_step or not self._num_steps:
            return False
        if self._running:
            return step >= self._first + self._num_steps
        return step == self._first

    def _toggle(self, step: int, *, state: Any, **_: Any) -> None:
        jax.block_until_ready(state)
        if self._running:
            jax.profiler.stop_trace()
        else:
            jax.profiler.start_trace(self._logdir)
        self._running = not self._running

    def close(self) -> None:
        """Ends a trace that the run's end cut short."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
