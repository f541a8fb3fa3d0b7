"""Stopping on request: a flag that the loop reads, instead of an end in mid-step."""

import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, ClassVar, Self


class Stop:
    """While open, the first SIGTERM or SIGINT asks the loop to stop.

        with Stop() as stop:
            while step < num_steps and not stop.after(step):
                ...
        sys.exit(stop.exit_code)

    The loop saves a checkpoint after the step under way and ends. A second signal does
    what it did before this was opened: it ends the program at once, or raises
    KeyboardInterrupt.

    exit_code: 0, also after SIGTERM: what a scheduler asked for was done, nothing is
      lost. Whether the run is at its end is told by `result.json`, which only a
      finished one has. 130 after Ctrl-C, so that `&&` in a shell does not go on.
    """

    signals: ClassVar[Sequence[signal.Signals]] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def after(self, step: int) -> bool:
        """Whether to stop after `step`, the one under way; asked once a step."""
        del step
        return self.requested

    @property
    def exit_code(self) -> int:
        """For `sys.exit`, once the checkpoint is saved."""
        return 128 + signal.SIGINT if self.signal == signal.SIGINT else 0

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; elsewhere there is nothing to do.
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # None: a handler not set from Python, which cannot be set back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
