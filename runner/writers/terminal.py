"""Terminal progress bar: one live line on a terminal, plain lines elsewhere."""

import os
import shutil
import sys
from collections.abc import Mapping
from typing import TextIO

from runner.files.printable import printable

_CLEAR = "\r\x1b[2K"
_CYAN, _DIM, _RESET = "\x1b[36m", "\x1b[2m", "\x1b[0m"


class Terminal:
    """Lines above one live line that is redrawn in place.

    On anything but a terminal (a pipe, a file, `TERM=dumb`, the one without a size that
    `mpirun` gives its ranks) there is no live line and `show` does nothing.
    """

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self.live = _is_terminal(self._stream) and os.environ.get("TERM") != "dumb"
        self.colored = self.live and not os.environ.get("NO_COLOR")
        self.plain_ascii = not _encodes(self._stream, "━╸")
        self._line = ""
        self._status = ""

    @property
    def width(self) -> int:
        """Columns; one is left free, or the cursor would wrap the live line."""
        return max(shutil.get_terminal_size().columns - 1, 20)

    def print(self, text: str) -> None:
        """Print whole lines above the live line; what controls a terminal is quoted."""
        self._write((_CLEAR if self._drawn else "") + printable(text) + "\n")
        self._draw()

    def show(self, line: str) -> None:
        """Replace the live line, and its status."""
        self._line, self._status = line, ""
        if self.live:
            self._draw()

    def status(self, text: str) -> None:
        """A word about a pause (`evaluating`), in place of the live line's end."""
        if self.live and text != self._status:
            drawn, self._status = self._drawn, text
            if drawn and not self._drawn:
                self._write(_CLEAR)
            self._draw()

    def close(self) -> None:
        """End the live line, and leave it standing."""
        self._status = ""
        if self._drawn:
            self._draw()
            self._write("\n")
            self._line = ""

    @property
    def _drawn(self) -> bool:
        return self.live and bool(self._line or self._status)

    def _draw(self) -> None:
        if not self._drawn:
            return
        line = self._line
        if self._status:
            dots = "..." if self.plain_ascii else "…"
            status = f"{self._status}{dots}"
            line = f"{_cut(line, self.width - len(status) - 2)}  {status}".lstrip()
        self._write(_CLEAR + line + (_RESET if self.colored else ""))

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
    numbers = [f"{name} {value:#.4g}" for name, value in values.items()]
    parts = [f"{100 * step // max(num_steps, 1):>3}%", *numbers, speed, time_left]
    parts = [part for part in parts if part]
    if not terminal.live:
        return "  ".join([f"step {count}", *parts])
    while parts and len("  ".join([count, *parts])) > terminal.width:
        parts.pop()
    text = "  ".join(parts)
    room = min(30, terminal.width - len(count) - len(text) - 3)
    drawn = bar(step / max(num_steps, 1), room, terminal) if room >= 6 else ""
    return f"{count} {drawn} {text}"


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
