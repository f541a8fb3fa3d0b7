"""Training time with pauses left out, and the rate of steps."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator


class Stopwatch:
    """Seconds spent training: time under `paused` does not count.

    `announce` is told why the clock stands still, and `""` when it goes on.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.monotonic,
        announce: Callable[[str], None] = lambda reason: None,
    ):
        self._now = now
        self._announce = announce
        self._start = now()
        self._paused = 0.0
        self._waited = 0.0
        self._since: float | None = None  # When the pause began that is on now.

    @property
    def wall(self) -> float:
        """Seconds since the start, pauses included."""
        return self._now() - self._start

    @property
    def elapsed(self) -> float:
        """Seconds since the start, pauses left out; stands still under `paused`."""
        now = self._now() if self._since is None else self._since
        return now - self._start - self._paused

    @property
    def waited(self) -> float:
        """Seconds under `waiting` so far; they count as training."""
        return self._waited

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in it as spent waiting."""
        begin = self._now()
        try:
            yield
        finally:
            self._waited += self._now() - begin

    @contextlib.contextmanager
    def paused(self, reason: str) -> Iterator[None]:
        """Stop the clock. May be nested; the outermost reason is announced."""
        if self._since is not None:
            yield
            return
        self._since = self._now()
        self._announce(reason)
        try:
            yield
        finally:
            self._paused += self._now() - self._since
            self._since = None
            self._announce("")


class Rate:
    """Steps a second over the last `seconds` of a clock."""

    def __init__(self, *, seconds: float = 10.0):
        self._seconds = seconds
        self._points: deque[tuple[float, int]] = deque()

    def update(self, step: int, elapsed: float) -> float | None:
        """Return the rate up to `step`, None until two times are known."""
        self._points.append((elapsed, step))
        while len(self._points) > 2 and elapsed - self._points[0][0] > self._seconds:
            self._points.popleft()
        first, first_step = self._points[0]
        return (step - first_step) / (elapsed - first) if elapsed > first else None
