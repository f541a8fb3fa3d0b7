"""The picture of a comparison over seeds: how far settings differ, how surely."""

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runner.evaluation.directions import more_is_better
from runner.evidence.comparison import Comparison, Row
from runner.evidence.intervals import Spread
from runner.report import theme

_LABELS = 3.2  # inches, beside the picture
_LONGEST = 44  # characters of a label
_LINE = 0.21  # inches
_AROUND = 0.75
_FAR = 4.0  # times the median reach of an interval


def svg(one: Comparison) -> str:
    """Draw a line a setting, the best on top: mean and interval of its differences.

    A setting that lies far from all others would press them flat: it is an arrow at the
    edge, with its number. Made for a light page; `theme.dark` makes its twin.

    Args:
      one: with at least two settings.
    """
    rows = _ordered(one)
    reach = _reach([row.difference for row in rows if row.difference])
    width = theme.WIDTH + _LABELS
    height = _LINE * len(rows) + _AROUND
    with mpl.rc_context({**theme.STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(width, height))
        left, foot = _LABELS / width, 0.28 / height
        axes = figure.add_axes((left, foot, 0.985 - left, 1 - _AROUND / height))
        axes.set_xlim(-1.05 * reach[0], 1.05 * reach[1])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.axvline(0.0, color=theme.MUTED, lw=1.0)
        for i, row in enumerate(rows):
            _draw(axes, i, row)
        axes.set_yticks([])
        place = axes.get_yaxis_transform()
        for i, row in enumerate(rows):
            text = _cut(plain(row.setting))
            at = -left / (0.985 - left)
            axes.text(at, i, text, transform=place, va="center", color=theme.MUTED)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=theme.STEPS))
        caption = f"{one.metric} minus that of the baseline (○), 95 % intervals"
        figure.text(0, 1 - 0.03 / height, caption, color=theme.MUTED, va="top")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return theme.system_font(buffer.getvalue())


def plain(setting: str) -> str:
    """Return a setting without the modules of its calls: `kd.loss=ForwardKL()`."""
    return re.sub(r"\b(?<!\.)(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_]\w*\()", "", setting)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _ordered(one: Comparison) -> list[Row]:
    sign = -1.0 if more_is_better(one.metric) else 1.0

    def place(row: Row) -> float:
        return sign * row.spread.mean if row.spread else np.inf

    return sorted(one.rows, key=place)


def _reach(differences: Sequence[Spread]) -> tuple[float, float]:
    """Return how far the picture goes below 0 and above, both positive."""
    ends = np.array([[_low(x), _high(x)] for x in differences] or [[0.0, 0.0]])
    most = _FAR * float(np.median(np.max(np.abs(ends), axis=1))) or 1.0
    near = ends[np.max(np.abs(ends), axis=1) <= most]
    below, above = -float(near.min(initial=0.0)), float(near.max(initial=0.0))
    least = 0.1 * max(below, above) or 1.0
    return max(below, least), max(above, least)


def _draw(axes: Axes, place: int, row: Row) -> None:
    look = {"color": theme.BLUE if row.is_certain else theme.INK, "clip_on": False}
    if row.difference is None:
        if row.spread is not None:
            axes.plot(0.0, place, "o", ms=4, mfc="none", **look)
        return
    mean, (least, most) = row.difference.mean, axes.get_xlim()
    if not least <= mean <= most:
        edge, marker, side = (
            (most, ">", "right") if mean > most else (least, "<", "left")
        )
        axes.plot(edge, place, marker, ms=5, **look)
        inner = edge - 0.02 * (most - least) * (1 if side == "right" else -1)
        axes.text(inner, place, f"{mean:+.3g}", ha=side, va="center", color=theme.MUTED)
        return
    ends = np.clip([_low(row.difference), _high(row.difference)], least, most)
    axes.plot(ends, [place, place], lw=1.6, **look)
    axes.plot(mean, place, "o", ms=4, **look)


def _low(spread: Spread) -> float:
    return spread.mean if np.isnan(spread.low) else spread.low


def _high(spread: Spread) -> float:
    return spread.mean if np.isnan(spread.high) else spread.high
