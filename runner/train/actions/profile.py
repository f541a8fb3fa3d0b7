"""The hook that profiles some steps."""

from typing import Any

import jax

from runner.train.actions.context import HookContext
from runner.train.actions.hook import Hook


class Profile(Hook):
    """Traces steps with the JAX profiler, from `profile_start` on.

    The trace begins when step `loop.profile_start` has finished and ends when
    `loop.profile_steps` more have. A run that continues past the first traces nothing.
    TensorBoard's profile plug-in and Perfetto read the directory `profile`.
    """

    reads = "state"

    def __init__(self, context: HookContext):
        self._logdir = str(context.workdir / "profile")
        self._first = context.config.loop.profile_start
        self._num_steps = context.config.loop.profile_steps
        self._latest = context.start
        self._running = False

    def due(self, step: int) -> bool:
        """Return whether the trace begins or ends after `step`."""
        if step <= self._latest or not self._num_steps:
            return False
        if self._running:
            return step >= self._first + self._num_steps
        return step == self._first

    def __call__(self, step: int, *, state: Any) -> bool:
        """Begin or end the trace, once the device has finished `step`."""
        if not self.due(step):
            return False
        jax.block_until_ready(state)
        if self._running:
            jax.profiler.stop_trace()
        else:
            jax.profiler.start_trace(self._logdir)
        self._running = not self._running
        self._latest = step
        return True

    def close(self) -> None:
        """End a trace that the run's end cuts short."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
