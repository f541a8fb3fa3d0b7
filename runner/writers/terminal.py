"""Terminal progress bars: live lines on a terminal, plain lines elsewhere.

Not `rich.live` (15.0.0), which takes 47 ms of every start to import, and hides the
cursor while it shows: after `kill -9` it would stay hidden.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from typing import TextIO

from runner.files import early_line
from runner.files.printable import printable

_CLEAR = "\r\x1b[2K"
_PARTS = "  "  # between two parts of a line
_CYAN, _DIM, _RESET = "\x1b[36m", "\x1b[2m", "\x1b[0m"


class Terminal:
    """Lines above a few live ones that are redrawn in place.

    On anything but a terminal (a pipe, a file, `TERM=dumb`, the one without a size that
    `mpirun` gives its ranks) there are no live lines and `show` does nothing.
    """

    def __init__(self, stream: TextIO | None = None):
        early_line.clear()
        self._stream = stream or sys.stdout
        self.live = _is_terminal(self._stream) and os.environ.get("TERM") != "dumb"
        self.colored = self.live and not os.environ.get("NO_COLOR")
        self.plain_ascii = not _encodes(self._stream, "━╸")
        self._lines: tuple[str, ...] = ()
        self._status = ""
        self._bar = ""  # of the pause that the status names
        self._height = 0  # lines that stand there now

    @property
    def width(self) -> int:
        """Columns; one is left free, or the cursor would wrap the live line."""
        return max(shutil.get_terminal_size().columns - 1, 20)

    def print(self, text: str) -> None:
        """Print whole lines above the live ones; what controls a terminal is quoted."""
        self._write(self._cleared() + printable(text) + "\n")
        self._height = 0
        self._draw()

    def show(self, *lines: str) -> None:
        """Replace the live lines, and the status."""
        if self.live:
            self._lines, self._status, self._bar = lines, "", ""
            self._draw()

    def status(self, text: str) -> None:
        """A word about a pause (`evaluating`), in place of the first line's end."""
        if self.live and text != self._status:
            self._status, self._bar = text, ""
            self._draw()

    def progress(self, name: str, fraction: float) -> None:
        """Show how far a part of the pause is, as a bar below the live lines."""
        text = f"{name} {bar(fraction, 20, self)} {fraction:4.0%}"
        if self.live and text != self._bar:
            self._bar = text
            self._draw()

    def close(self) -> None:
        """End the live lines, and leave them standing."""
        self._status = self._bar = ""
        if self.live and (self._lines or self._height):
            self._draw()
            if self._lines:
                self._write("\n")
        self._lines, self._height = (), 0

    def _cleared(self) -> str:
        """Return what takes the live lines off the screen, the cursor on the first."""
        if self._height > 1:
            return f"\r\x1b[{self._height - 1}A\x1b[J"
        return _CLEAR if self._height else ""

    def _draw(self) -> None:
        lines = list(self._lines)
        if self._status:
            dots = "..." if self.plain_ascii else "…"
            status = f"{self._status}{dots}"
            first = _cut(lines[0] if lines else "", self.width - len(status) - 2)
            lines[:1] = [f"{first}  {status}".lstrip()]
        lines += [self._bar] if self._bar else []
        text = "\n".join(_cut(line, self.width) for line in lines)
        cleared = self._cleared() or (_CLEAR if lines else "")
        self._height = len(lines)
        if cleared:
            self._write(cleared + text + (_RESET if text and self.colored else ""))

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def progress_line(
    step: int,
    num_steps: int,
    *,
    values: Mapping[str, float],
    speed: str,
    time_left: str,
    terminal: Terminal,
) -> str:
    """`180/400 ━━━━━━╸━━━━━━━  45%  loss 4.512  26.1k tokens/s  1:23 left`.

    Too narrow a terminal first shortens the bar, then drops parts from the right.
    """
    count = f"{step:>{len(str(num_steps))}}/{num_steps}"
    parts = [f"{100 * step // max(num_steps, 1):>3}%", numbers(values)]
    parts = [part for part in [*parts, speed, time_left] if part]
    if not terminal.live:
        return _PARTS.join([f"step {count}", *parts])
    while parts and len(_PARTS.join([count, *parts])) > terminal.width:
        parts.pop()
    text = _PARTS.join(parts)
    room = min(30, terminal.width - len(count) - len(text) - 3)
    drawn = bar(step / max(num_steps, 1), room, terminal) if room >= 6 else ""
    return f"{count} {drawn} {text}"


def numbers(values: Mapping[str, float]) -> str:
    """`loss 4.512  lr 3.000e-4`: each to four digits."""
    return _PARTS.join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float) -> str:
    if 0 < abs(value) < 1e-3:
        return f"{value:.3e}".replace("e-0", "e-")
    return f"{value:#.4g}"


def bar(fraction: float, width: int, terminal: Terminal) -> str:
    """Return a bar of `width` columns, a half cell fine."""
    halves = min(int(fraction * width * 2), width * 2)
    if terminal.plain_ascii:
        return "#" * (halves // 2) + "-" * (width - halves // 2)
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    left = "━" * (width - len(done))
    if not terminal.colored:
        return done + " " * len(left)
    return f"{_CYAN}{done}{_RESET}{_DIM}{left}{_RESET}"


def _cut(text: str, width: int) -> str:
    """Return what of `text` fits in `width` columns; colour codes take none."""
    text_within, columns, i = "", 0, 0
    while i < len(text) and columns < width:
        if text[i] == "\x1b":
            end = text.index("m", i) + 1
            text_within += text[i:end]
            i = end
        else:
            text_within += text[i]
            columns += 1
            i += 1
    if i < len(text):
        text_within = text_within.rpartition("  ")[0] or text_within
    return text_within + (_RESET if "\x1b" in text else "")


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
