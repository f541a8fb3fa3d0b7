"""Progress of a long reading of data, on standard error."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

_FIRST, _EVERY = 2.0, 10.0  # seconds
_MEGABYTE = 1e6


class Progress:
    """A line every ten seconds, the first after two; none of what is quick.

        tokenising: 31%, 620 of 2,000 MB, 5.2 MB/s, 4:25 left

    On a terminal it is a bar, drawn again in place twice a second.
    """

    def __init__(
        self,
        doing: str,
        total: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
          doing: A participle, which the line begins with.
          total: Bytes of text in all; 0 where nobody knows.
          stream: Standard error by default.
          clock: Seconds.
        """
        self._doing, self._total, self._clock = doing, total, clock
        self._stream = stream or sys.stderr
        self._begin = clock()
        self._due = self._begin + _FIRST
        self._done = self._before = self._written = 0
        self._terminal = None  # until there is a first line

    def advance(self, num_bytes: int, *, before: bool = False) -> None:
        """Count bytes that are done; those `before` were done by an earlier run."""
        self._done += num_bytes
        if before:
            self._before += num_bytes
        if self._clock() >= self._due:
            live = self._write()
            self._due = self._clock() + (0.5 if live else _EVERY)

    def close(self) -> None:
        """Write a last line, if there was one that does not say the same."""
        if self._terminal:
            if self._terminal.live or self._written != self._done:
                self._write()
            self._terminal.close()

    def _write(self) -> bool:
        """Write a line, and return whether it is a live one."""
        if self._terminal is None:
            from runner.writers.terminal import Terminal  # for what takes its time

            self._terminal = Terminal(self._stream)
        parts, self._written = self._parts(), self._done
        if not self._terminal.live:
            self._terminal.print(f"{self._doing}: {', '.join(parts)}")
        elif self._total:
            from runner.writers.bars import PARTS, Bar

            fraction = self._done / self._total
            self._terminal.show(Bar(self._doing, fraction, PARTS.join(parts)))
        else:
            self._terminal.status(f"{self._doing} {', '.join(parts)}")
        return self._terminal.live

    def _parts(self) -> list[str]:
        seconds = max(self._clock() - self._begin, 1e-9)
        rate = (self._done - self._before) / seconds
        done = f"{self._done / _MEGABYTE:,.0f}"
        if not self._total:
            return [f"{done} MB", f"{rate / _MEGABYTE:,.1f} MB/s"]
        left = self._total - self._done
        parts = [
            f"{100 * self._done // self._total}%",
            f"{done} of {self._total / _MEGABYTE:,.0f} MB",
            f"{rate / _MEGABYTE:,.1f} MB/s",
        ]
        if left > 0 and rate > 0:
            minutes, rest = divmod(round(left / rate), 60)
            parts.append(f"{minutes}:{rest:02} left")
        if self._before:
            parts.append(f"{self._before / _MEGABYTE:,.0f} MB done before")
        return parts
