"""Stopping on request: a flag that the loop reads, instead of an end in mid-step."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, ClassVar, Self

_GLANCE = 0.2  # seconds between two looks at an event
_ONE_REQUEST = 1.0  # seconds; Slurm was seen to send SIGTERM twice within 20 ms


_ASKED = threading.Event()


class StopAsked(Exception):
    """A signal came while something was waited for that may never come."""


def wait(event: threading.Event, seconds: float) -> None:
    """Wait for an event, some seconds at most.

    Raises:
      StopAsked: A signal asked the program to stop; the waiting is over.
    """
    until = time.monotonic() + seconds
    while not event.is_set() and (left := until - time.monotonic()) > 0:
        if _ASKED.wait(min(left, _GLANCE)):
            raise StopAsked


class Stop:
    """While open, the first SIGTERM or SIGINT asks the loop to stop.

        with Stop() as stop:
            while step < num_steps and not stop.after(step):
                ...
        sys.exit(stop.exit_code)

    The loop saves a checkpoint after the step under way and ends. Signals within a
    second of the first are the same request; a later one does what it did before this
    was opened: it ends the program at once, or raises KeyboardInterrupt; so too where
    it was ignored, as a shell has SIGINT ignored by what a script starts with `&`.

    Attributes:
      signals: Signals that ask for a stop.
      signal: The one that came, or None.
    """

    signals: ClassVar[Sequence[signal.Signals]] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._since = 0.0
        self._waiting = False

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

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Wrap a wait of the loop for what may never come, such as a server's answer.

        Raises:
          StopAsked: A signal has come; the step before was the last one.
        """
        self._waiting = True
        try:
            if self.requested:
                raise StopAsked
            yield
        finally:
            self._waiting = False

    def __enter__(self) -> Self:
        _ASKED.clear()
        # Only the main thread may set handlers; elsewhere there is nothing to do.
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: a handler not set from Python, which cannot be set back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        _ASKED.clear()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), now
            self._wake()
        elif now - self._since >= _ONE_REQUEST:
            self._obey(signal.Signals(number))

    def _wake(self) -> None:
        """End the waiting of this process, which need agree with no other."""
        _ASKED.set()
        if self._waiting:
            raise StopAsked

    def _obey(self, number: signal.Signals) -> None:
        """Do what a signal does that is not caught."""
        handler = self._before[number]
        if handler in (None, signal.SIG_IGN):
            interrupts = number == signal.SIGINT
            handler = signal.default_int_handler if interrupts else signal.SIG_DFL
        signal.signal(number, handler)
        signal.raise_signal(number)
