"""Actions that are handed the fetched metrics of every step."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.errors import NotFinite
from runner.machine import distributed
from runner.train.actions.periodic import Action
from runner.writers import quantities
from runner.writers.clu import metric_writers
from runner.writers.stopwatch import Rate, Stopwatch
from runner.writers.terminal import Terminal, progress_line

Metrics = Mapping[str, float]


class Log(Action):
    """Writes the metrics of a due step, with the speed since the last due step.

    unit: what has one target, `"token"`; `units_per_step` of them are in a batch.

    `speed/steps_per_second` and `speed/{unit}s_per_second` leave out what the stopwatch
    was paused for, and the first step seen (it was compiled). `speed/mfu` is
    `flops_per_step · steps_per_second / peak_flops`, a fraction of one;
    `speed/waiting_for_data` is the share of the same time that the stopwatch was under
    `waiting`.
    """

    def __init__(
        self,
        writer: metric_writers.MetricWriter,
        *,
        every: int,
        last: int,
        start: int = 0,
        stopwatch: Stopwatch,
        unit: str,
        units_per_step: float,
        flops_per_step: float | None = None,
        peak_flops: float | None = None,
    ):
        super().__init__(self._write, every=every, last=last, start=start)
        self._writer = writer
        self._stopwatch = stopwatch
        self._scales = {"steps": 1.0, f"{unit}s": units_per_step}
        if flops_per_step and peak_flops:
            self._scales["mfu"] = flops_per_step / peak_flops
        # Where it began: step, seconds, seconds waited.
        self._window: tuple[int, float, float] | None = None

    def __call__(self, step: int, t: float | None = None, **kwargs) -> bool:
        if self._window is None:
            self._window = self._now(step)
        return super().__call__(step, t, **kwargs)

    def _write(self, step: int, *, metrics: Metrics, **_: Any) -> None:
        self._writer.write_scalars(step, {**metrics, **self._speed(step)})

    def _speed(self, step: int) -> dict[str, float]:
        assert self._window is not None
        begin, since, had_waited = self._window
        self._window = _, now, waited = self._now(step)
        if step == begin or now <= since:
            return {}
        rate = (step - begin) / (now - since)
        return {
            "speed/mfu" if name == "mfu" else f"speed/{name}_per_second": rate * scale
            for name, scale in self._scales.items()
        } | {"speed/waiting_for_data": (waited - had_waited) / (now - since)}

    def _now(self, step: int) -> tuple[int, float, float]:
        return step, self._stopwatch.elapsed, self._stopwatch.waited


class Progress(Action):
    """The live line on a terminal; elsewhere a plain line every `plain_seconds`.

    values: which metrics to show, by the name to show them under.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        last: int,
        start: int = 0,
        stopwatch: Stopwatch,
        unit: str,
        units_per_step: float,
        values: Mapping[str, str] | None = None,
        plain_seconds: float = 10.0,
        now: Callable[[], float] = time.monotonic,
    ):
        super().__init__(self._show, every=1, last=last, start=start)
        self._terminal = terminal
        self._last_step = last
        self._stopwatch = stopwatch
        self._unit, self._units_per_step = unit, units_per_step
        self._values = values or {"loss": "learning/total"}
        self._seconds = 0.1 if terminal.live else plain_seconds
        self._now = now
        self._shown = -math.inf
        self._rate = Rate()
        self._first: tuple[int, float] | None = None  # Step and wall seconds.

    def _show(self, step: int, *, metrics: Metrics, **_: Any) -> None:
        rate = self._rate.update(step, self._stopwatch.elapsed)
        wall = self._stopwatch.wall
        self._first = self._first or (step, wall)
        now = self._now()
        if now - self._shown < self._seconds and step != self._last_step:
            return
        self._shown = now
        line = progress_line(
            step,
            self._last_step,
            values={k: metrics[v] for k, v in self._values.items() if v in metrics},
            speed=self._speed(rate),
            time_left=self._time_left(step, wall),
            terminal=self._terminal,
        )
        if self._terminal.live:
            self._terminal.show(line)
        else:
            self._terminal.print(line)

    def _speed(self, rate: float | None) -> str:
        if rate is None:
            return ""
        return f"{quantities.quantity(rate * self._units_per_step)} {self._unit}s/s"

    def _time_left(self, step: int, wall: float) -> str:
        """From the pace so far, pauses included: it is the user's time."""
        if step == self._last_step:
            return f"in {quantities.duration(wall)}"
        assert self._first is not None
        first_step, first_wall = self._first
        if step == first_step:
            return ""
        pace = (wall - first_wall) / (step - first_step)
        return f"{quantities.duration(pace * (self._last_step - step))} left"


class StopOnNan(Action):
    """Raises as soon as a metric is not finite, naming the step, term and batch.

    terms: names of the loss terms in the order of the experiment; the first that is
           not finite is named first, for the others may only follow from it.

    One NaN gradient makes Adam's moments NaN for ever, so there is no going on; the
    last checkpoint is from before. The metrics of the bad step are written first.

    Raises:
      NotFinite: from a call.
    """

    def __init__(
        self,
        *,
        terms: Sequence[str],
        writer: metric_writers.MetricWriter | None = None,
        start: int = 0,
    ):
        super().__init__(self._check, every=1, start=start)
        learning = [f"learning/{term}" for term in terms]
        self._order = [*learning, "learning/total", "optimizer/gradient_norm"]
        self._writer = writer

    def _check(
        self, step: int, *, metrics: Metrics, rows: Sequence[int] = (), **_: Any
    ) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if not bad:
            return
        if self._writer is not None:
            self._writer.write_scalars(step, metrics)
            self._writer.flush()
        bad.sort(key=lambda name: (_index(self._order, name), name))
        raise NotFinite(self._message(step, metrics, bad, rows))

    def _message(
        self, step: int, metrics: Metrics, bad: Sequence[str], rows: Sequence[int]
    ) -> str:
        first, *others = bad
        message = f"step {step}: {first} is {metrics[first]}"
        if others:
            more = ", ..." if len(others) > 4 else ""
            message += f" (and so are {', '.join(others[:4])}{more})"
        numbers = distributed.whole(rows).tolist()
        if numbers:
            shown = ", ".join(map(str, numbers[:32]))
            more = f", ... ({len(numbers)} in all)" if len(numbers) > 32 else ""
            message += f"\nbatch of step {step}: dataset rows {shown}{more}"
        return message + "\nno checkpoint of this state was kept; the last one is good"


def _index(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
