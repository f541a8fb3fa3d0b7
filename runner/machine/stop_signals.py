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

    Attributes:
      signals: Signals that ask for a stop.
      signal: The one that came, or None.
    """

    signals: ClassVar[Sequence[signal.Signals]] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Return whether a signal has come."""
        return self.signal is not None

    def after(self, step: int) -> bool:
        """Return whether to stop after `step`; the loop calls this once a step."""
        del step
        return self.requested

    @property
    def exit_code(self) -> int:
        """Return the code for `sys.exit`, once the checkpoint is saved.

        It is 0 also after SIGTERM: the scheduler's request was met, and nothing is
        lost. Only a finished run has a `result.json`. After Ctrl-C it is 130, so that
        `&&` in a shell does not go on.
        """
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
