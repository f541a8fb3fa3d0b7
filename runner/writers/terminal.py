"""Terminal output: bars and live lines on a terminal, plain lines elsewhere.

`rich` draws them (`runner.writers.live`), imported with the first one.
"""

import os
import sys
from typing import TextIO

from runner.files import early_line, sweep_unit
from runner.files.printable import printable
from runner.writers.bars import PARTS, Bar, percent


class Terminal:
    """Lines above a few live ones that are redrawn in place.

    On anything but a terminal (a pipe, a file, `TERM=dumb`, the one without a size that
    `mpirun` gives its ranks) there are no live lines and `show` does nothing.
    """

    def __init__(self, stream: TextIO | None = None):
        early_line.clear()
        self._stream = stream or sys.stdout
        self.live = _is_terminal(self._stream) and os.environ.get("TERM") not in (
            "dumb",
            "unknown",
        )
        self._display = None  # until there is a first line
        self._bar: Bar | None = None
        self._lines: tuple[str, ...] = ()
        self._status = ""
        self._pause: Bar | None = None  # how far what the status names is

    def print(self, text: str) -> None:
        """Print whole lines above the live ones; what controls a terminal is quoted."""
        if self._display:
            self._display.print(printable(text))
        else:
            self._stream.write(printable(text) + "\n")
            self._stream.flush()

    def show(self, bar: Bar, *lines: str) -> None:
        """Replace the bar, the lines below it, and the status."""
        self._bar, self._lines, self._status, self._pause = bar, lines, "", None
        self._draw()

    def status(self, text: str) -> None:
        """A word about a pause (`evaluating`), in place of the bar's last part."""
        if text != self._status:
            self._status, self._pause = text, None
            self._draw()

    def progress(self, name: str, fraction: float) -> None:
        """Show how far a part of the pause is, as a bar below the first."""
        bar = Bar(name, fraction, percent(fraction))
        if self._pause is None or bar.text != self._pause.text:
            self._pause = bar
            self._draw()

    def close(self) -> None:
        """End the live lines, and leave bar and lines standing."""
        if self._display:
            bars = [self._bar] if self._bar else []
            self._display.draw(bars, self._lines if self._bar else ())
            self._display.close()
        self._display = self._bar = self._pause = None
        self._lines, self._status = (), ""

    def _draw(self) -> None:
        if not self.live:
            return
        if self._display is None:
            from runner.writers import live

            self._display = live.Display(self._stream)
        lines, shown = list(self._lines), [self._bar] if self._bar else []
        if self._status:
            dots = "…" if _encodes(self._stream, "…") else "..."
            status = f"{self._status}{dots}"
            if self._bar:
                text = self._bar.text.rpartition(PARTS)[0]
                text = PARTS.join(filter(None, [text, status]))
                shown = [self._bar._replace(text=text)]
            else:
                lines.insert(0, status)
        outer = _of_sweep(self._bar.fraction if self._bar else 0.0)
        self._display.draw([*filter(None, [outer, *shown, self._pause])], lines)


def _of_sweep(fraction: float) -> Bar | None:
    """Return the bar of the sweep that this run is a unit of, if there is one."""
    place = sweep_unit.read()
    if place is None:
        return None
    done = (place.number - 1 + fraction) / place.among
    text = PARTS.join([percent(done), place.label])
    return Bar(f"unit {place.number}/{place.among}", done, text)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:  # no file, so what is behind it is for `isatty` to say
        return stream.isatty()


def _encodes(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
