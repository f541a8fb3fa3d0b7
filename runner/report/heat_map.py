"""Heat map of the cosines between gradients of terms."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from runner.report.theme import BLUE, INK, MEASURED, MUTED, STYLE, system_font

PREFIX = "diagnostics/"
AGAINST = MEASURED[0]
ROOM = 50  # characters that fit side by side above the square


def square(
    latest: Mapping[str, float], part: str, terms: Sequence[str]
) -> tuple[list[str], np.ndarray] | None:
    """Return the terms that have a cosine, and the cosines, from the latest metrics."""
    values = {}
    for name, value in latest.items():
        if name.startswith(f"{PREFIX}{part}_cosine/"):
            one, other = name.split("/")[2:]
            values[one, other] = values[other, one] = value
    present = [term for term in terms if any(term in pair for pair in values)]
    if not present:
        return None
    cosines = [
        [1.0 if a == b else values.get((a, b), np.nan) for b in present]
        for a in present
    ]
    return present, np.array(cosines)


def figure(terms: Sequence[str], cosines: np.ndarray) -> Figure:
    """Draw one cell a pair: blue above 0, orange below, stronger far from 0."""
    # The square; long names slant.
    count = len(terms)
    drawn = Figure(figsize=(4.8, 2.7))
    slanted = count * max(map(len, terms)) > ROOM
    axes = drawn.add_axes(
        (0.24, 0.04, 0.64 if slanted else 0.72, 0.68 if slanted else 0.78)
    )
    axes.grid(visible=False)

    # Cells, each with its number.
    for i in range(count):
        for j in range(count):
            cosine = cosines[i, j]
            if not np.isfinite(cosine):
                continue
            color = BLUE if cosine >= 0 else AGAINST
            cell = Rectangle(
                (j, i), 1, 1, facecolor=color, alpha=0.75 * min(abs(cosine), 1.0)
            )
            axes.add_patch(cell)
            axes.text(
                j + 0.5, i + 0.5, f"{cosine:.2f}", ha="center", va="center", color=INK
            )

    # The names of the terms, and nothing else.
    axes.set_xlim(0, count)
    axes.set_ylim(count, 0)
    slant: dict[str, Any] = {"rotation": 30, "ha": "left"} if slanted else {}
    axes.set_xticks(np.arange(count) + 0.5, terms, **slant)
    axes.set_yticks(np.arange(count) + 0.5, terms)
    axes.tick_params(
        length=0, top=False, labeltop=True, bottom=False, labelbottom=False
    )
    axes.spines[:].set_visible(False)
    drawn.text(0, 0.985, "cosine", color=MUTED, va="top")
    return drawn


def svg(terms: Sequence[str], cosines: np.ndarray) -> str:
    """Return the picture for the report; `theme.dark` makes its twin."""
    with mpl.rc_context(STYLE):
        drawn, buffer = figure(terms, cosines), io.StringIO()
        drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return system_font(buffer.getvalue())


def pixels(terms: Sequence[str], cosines: np.ndarray) -> np.ndarray:
    """Return the picture for TensorBoard, `[height width 3]` uint8."""
    with mpl.rc_context(STYLE):
        canvas = FigureCanvasAgg(figure(terms, cosines))
        canvas.figure.set_dpi(160)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
