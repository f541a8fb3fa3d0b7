"""The hook that writes metrics, and the speed of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from runner.head import flops
from runner.train.actions.context import HookContext
from runner.train.actions.hook import Hook
from runner.train.actions.periodic import MetricsHook
from runner.train.actions.step_means import StepMeans


def log(context: HookContext) -> Hook:
    """Write means of the metrics since the last due step, and the speed since then."""
    peak = flops.peak(jax.devices()[0])
    return Log(
        context,
        # Counting FLOPs traces the step: only where they can be set beside a peak.
        step_over_peak_flops=(
            context.flops_per_step() / (peak * jax.device_count()) if peak else None
        ),
    )


class Log(MetricsHook):
    """Write means of the metrics since the last due step, and the speed since then.

    `speed/steps_per_second` and `speed/{unit}s_per_second` leave out pauses of the
    stopwatch, and the first step (it was compiled). `speed/mfu` is
    `flops_per_step · steps_per_second / peak_flops`, a fraction of one;
    `speed/waiting_for_data` is the share of the same time that the stopwatch was under
    `waiting`.
    """

    def __init__(
        self, context: HookContext, *, step_over_peak_flops: float | None = None
    ):
        """Log as often as `loop.log_every` says.

        Args:
          context: The run.
          step_over_peak_flops: FLOPs of a step over the devices' peak per second.
        """
        super().__init__(
            self._write,
            every=context.config.loop.log_every,
            last=context.num_steps,
            start=context.start,
        )
        self._writer, self._stopwatch = context.writer, context.stopwatch
        self._scales = {
            "steps_per_second": 1.0,
            f"{context.unit}s_per_second": context.units_per_step,
        }
        if step_over_peak_flops:
            self._scales["mfu"] = step_over_peak_flops
        self._means = StepMeans()
        # The begin of the window: step, seconds, seconds waited.
        self._window: tuple[int, float, float] | None = None

    def __call__(self, step: int, t: float | None = None, **inputs) -> bool:
        """Add to the means, due or not; write if due."""
        if self._window is None:
            self._window = self._now(step)
        self._means.add(inputs["metrics"])
        return super().__call__(step, t, **inputs)

    def on_end(self, step: int, *, state: Any) -> None:
        """Write the means that are left, unless this step is written already."""
        del state
        self.act_now(step, metrics={})

    def memory(self) -> Any:
        """Return the means so far: a resumed run writes the rows of a whole one."""
        return self._means.state()

    def recall(self, memory: Any) -> None:
        """Go on from the means at the checkpoint."""
        self._means.restore(memory)

    def _write(
        self, step: int, *, metrics: Mapping[str, float], rows: Sequence[int] = ()
    ) -> None:
        del metrics, rows
        self._writer.write_scalars(step, {**self._means.take(), **self._speed(step)})

    def _speed(self, step: int) -> dict[str, float]:
        assert self._window is not None
        begin, since, waited_before = self._window
        self._window = _, now, waited = self._now(step)
        if step == begin or now <= since:
            return {}
        rate = (step - begin) / (now - since)
        return {
            **{f"speed/{name}": rate * scale for name, scale in self._scales.items()},
            "speed/waiting_for_data": (waited - waited_before) / (now - since),
        }

    def _now(self, step: int) -> tuple[int, float, float]:
        return step, self._stopwatch.elapsed, self._stopwatch.waited
