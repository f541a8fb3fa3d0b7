"""Bars on a terminal, drawn by `rich`.

Only `terminal` imports this module, for the first bar: `rich.live` (15.0.0) takes 28 ms
to import alone, and 5 ms after flax, which imports most of it.
"""

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runner.writers.bars import PARTS, Bar

_WIDEST, _NARROWEST = 30, 6  # columns of a bar


class _Console(Console):
    """A console that leaves the cursor alone.

    `rich.live` hides it as long as it draws: after `kill -9` it would stay hidden.
    """

    def show_cursor(self, show: bool = True) -> bool:
        del show
        return False


class Display:
    """Bars and lines that stay below all that is printed, until they are closed."""

    def __init__(self, stream: TextIO):
        self._console = _Console(
            file=stream, force_terminal=True, highlight=False, markup=False, emoji=False
        )
        # What others print there goes above; what they print into a file stays there.
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            vertical_overflow="crop",
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()

    def print(self, text: str) -> None:
        """Print lines above; a long one wraps as the terminal has it."""
        self._console.print(Text(text), soft_wrap=True)

    def draw(self, bars: Sequence[Bar], lines: Sequence[str]) -> None:
        """Replace what stands there, by bars under each other, and lines."""
        # One column is left free, or the cursor would wrap the last line.
        width = max(self._console.width - 1, 20)
        texts = [Text(_cut(line, width)) for line in lines]
        self._live.update(Group(*_rows(bars, width), *texts), refresh=True)

    def close(self) -> None:
        """Leave what stands there, the cursor below it."""
        self._live.stop()


def _rows(bars: Sequence[Bar], width: int) -> list[Table]:
    """Return the bars as one table, as wide as there is room.

    Too narrow a terminal first shortens bars, then drops parts from the right.
    """
    if not bars:
        return []
    head = max(len(bar.head) for bar in bars)
    texts = [_cut(bar.text, width - head - 1) for bar in bars]
    room = min(_WIDEST, width - head - 2 - max(map(len, texts)))
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    for bar, text in zip(bars, texts, strict=True):
        drawn = ProgressBar(
            total=1.0,
            completed=bar.fraction,
            width=room,
            style="dim",
            complete_style="cyan",
            finished_style="cyan",
        )
        cells = [drawn] if room >= _NARROWEST else []
        table.add_row(Text(bar.head), *cells, Text(text, no_wrap=True))
    return [table]


def _cut(text: str, width: int) -> str:
    """Return the parts that fit in `width` columns; of a single one, its start."""
    parts = text.split(PARTS)
    while parts[1:] and len(PARTS.join(parts)) > width:
        parts.pop()
    return PARTS.join(parts)[: max(width, 0)]
