"""Sizes, colours and style of all pictures, and their dark twins."""

import re
from typing import Any

WIDTH, HEIGHT = 4.8, 2.7  # inches
BLUE = "#2166c9"
MEASURED = ("#c2570c", "#2c7a4b", "#7b4bb7")
COLORS = (
    *(BLUE, *MEASURED),
    *("#c4244f", "#0e7c86", "#8a6d00", "#b0399a"),
    *("#5b6470", "#5f8500", "#7a3e1d", "#3a3fb5"),
)
"""Of the curves of up to twelve runs; their dark twins are in `DARK`."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.6)), (0, (7, 2, 1.5, 2)))
"""Line styles beside the colours, for those who do not see all of these."""
INK, MUTED, GRID = "#3d4149", "#6b727d", "#e4e6ea"
DARK = {
    BLUE: "#6ea8fe",
    **dict(zip(MEASURED, ("#ff9d52", "#63c58a", "#b794f6"), strict=True)),
    **dict(zip(COLORS[4:8], ("#ff7a9a", "#4fc9d4", "#e0bd3d", "#f08be0"), strict=True)),
    **dict(zip(COLORS[8:], ("#a9b2be", "#b5d94c", "#d19a76", "#9a9ef7"), strict=True)),
    INK: "#d3d7de",
    MUTED: "#98a0ac",
    GRID: "#31353d",
}
SIZE = 9.5  # points
STYLE: dict[Any, Any] = {  # By matplotlib's own names.
    "svg.fonttype": "none",
    "svg.hashsalt": "retort",
    "font.size": SIZE,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.linewidth": 1.0,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}
STEPS = [1, 2, 2.5, 5, 10]  # Multiples at which ticks may stand.


def dark(svg: str) -> str:
    """Return the same picture for a dark page."""
    return re.sub("|".join(DARK), lambda match: DARK[match[0]], svg)


def system_font(svg: str) -> str:
    """Put the reader's own sans-serif font in place of the one measured with."""
    return re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
