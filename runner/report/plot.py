"""Curves as an SVG, in colours that have a dark twin.

A faint line is every logged point, the strong line a moving average. Numbers and
labels are text in the picture, so they stay sharp and can be searched.
"""

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from runner.report.run import Series

WIDTH, HEIGHT = 4.8, 2.7  # inches
BLUE = "#2166c9"
MEASURED = ("#c2570c", "#2c7a4b", "#7b4bb7")
COLORS = (BLUE, *MEASURED)
INK, MUTED, GRID = "#3d4149", "#6b727d", "#e4e6ea"
DARK = {
    BLUE: "#6ea8fe",
    **dict(zip(MEASURED, ("#ff9d52", "#63c58a", "#b794f6"), strict=True)),
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
STEPS = [1, 2, 2.5, 5, 10]  # What a tick may be a multiple of.


def svg(
    series: Series | None,
    *,
    unit: str,
    points: Mapping[str, Series],
    levels: Mapping[str, float],
    scale: Literal["linear", "fitting"] = "fitting",
) -> str:
    """A curve over steps, as the text of an SVG file for a light page.

    series: logged every few steps, and noisy.
    points: measured now and then, by name; a name `""` is not written.
    levels: horizontal lines by name, left out where they would stretch the axis.
    scale:  logarithmic where that fits a series better, unless it is to be linear.
    """
    with mpl.rc_context(STYLE):
        axes = _axes()
        labels = []
        if series is not None:
            steps, values = np.asarray(series.steps), np.asarray(series.values, float)
            if scale == "fitting" and _wide(values):
                axes.set_yscale("log")
            _line(axes, steps, values)
            labels += [("training", _at_end(series.values), BLUE)] if points else []
        for (name, other), color in zip(points.items(), itertools.cycle(MEASURED)):
            look = {"color": color, "markersize": 4, "lw": 1.6, "clip_on": False}
            axes.plot(other.steps, other.values, "o-", **look)
            labels += [(name, _at_end(other.values[-1:]), color)] if name else []
        _scale(axes, [s for s in (series, *points.values()) if s is not None])
        return _saved(axes, unit=unit, labels=labels, levels=levels)


def compared(
    lines: Mapping[str, Series], *, unit: str, levels: Mapping[str, float]
) -> str:
    """Smoothed curves by name; the steep first fifth may leave the picture."""
    with mpl.rc_context(STYLE):
        axes = _axes()
        labels, tops = [], []
        for (name, line), color in zip(lines.items(), itertools.cycle(COLORS)):
            values = smoothed(np.asarray(line.values, float))
            axes.plot(line.steps, values, color=color, lw=1.6)
            labels.append((name, _at_end(line.values), color))
            tops.append(values[len(values) // 5])
        _scale(axes, list(lines.values()))
        if math.isfinite(top := max(tops)) and top > axes.get_ylim()[0]:
            axes.set_ylim(top=top)
        return _saved(axes, unit=unit, labels=labels, levels=levels)


def _axes() -> Axes:
    return Figure(figsize=(WIDTH, HEIGHT)).add_axes((0.115, 0.13, 0.85, 0.75))


def _saved(
    axes: Axes,
    *,
    unit: str,
    labels: Sequence[tuple[str, float, str]],
    levels: Mapping[str, float],
) -> str:
    _write_labels(axes, [*labels, *_level_lines(axes, levels)])
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.text(0, 0.985, unit, color=MUTED, va="top")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return system_font(buffer.getvalue())


def dark(svg: str) -> str:
    """The same picture for a dark page."""
    return re.sub("|".join(DARK), lambda match: DARK[match[0]], svg)


def _line(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    steps, values = _thinned(steps, values)
    log = axes.get_yscale() == "log"
    if len(values) < 60 or not _noisy(np.log(values) if log else values):
        axes.plot(steps, values, color=BLUE, lw=1.8)
        return
    axes.plot(steps, values, color=BLUE, lw=0.8, alpha=0.35)
    axes.plot(steps, smoothed(values, log=log), color=BLUE, lw=1.8)


def smoothed(values: np.ndarray, *, log: bool = False) -> np.ndarray:
    """A Gaussian moving average; NaN stays NaN and weighs nothing.

    The window narrows towards the first point, where curves fall steeply and a
    one-sided window would lie. `log` averages logarithms.
    """
    finite = np.isfinite(values)
    drawn = np.where(finite, values, 1.0)
    drawn = np.log(drawn) if log else drawn
    deviation = max(len(values) / 60, 1.5)
    reach = math.ceil(3 * deviation)
    smooth = np.full(len(values), np.nan)
    for i in np.flatnonzero(finite):
        window = np.arange(i - min(i, reach), min(i + min(i, reach) + 1, len(values)))
        weights = np.exp(-0.5 * ((window - i) / deviation) ** 2) * finite[window]
        smooth[i] = weights @ drawn[window] / weights.sum()
    return np.exp(smooth) if log else smooth


def _thinned(
    steps: np.ndarray, values: np.ndarray, *, points: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """At most twice `points`: more than a screen can show."""
    stride = max(1, len(steps) // points)
    return steps[::stride], values[::stride]


def _wide(values: np.ndarray) -> bool:
    """Whether a linear axis would press most of the curve onto its floor."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or finite.min() <= 0:
        return False
    return bool(finite.max() > 12 * np.quantile(finite, 0.02))


def _noisy(values: np.ndarray) -> bool:
    """Whether points jump about their neighbours' mean: a schedule does not."""
    finite = values[np.isfinite(values)]
    jumps = np.abs(finite[1:-1] - (finite[:-2] + finite[2:]) / 2)
    low, high = np.quantile(finite, [0.02, 0.98])
    return bool(np.quantile(jumps, 0.75) > 2e-3 * (high - low))


def _scale(axes: Axes, drawn: Sequence[Series]) -> None:
    axes.set_xlim(0, max([1, *(series.steps[-1] for series in drawn)]))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=STEPS))
    count = EngFormatter(sep="")
    axes.xaxis.set_major_formatter(
        lambda step, _: count(step) if step else "step 0"  # The axis is named there.
    )
    if axes.get_yscale() == "log":
        low, high = axes.get_ylim()
        subs = (1.0, 2.0, 5.0) if high < 50 * low else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        low, high = axes.get_ylim()
        if high - low < 0.2 * max(abs(high), abs(low)) and _constant(drawn):
            axes.set_ylim(min(0.0, 1.2 * low), max(0.0, 1.2 * high))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.yaxis.set_major_formatter(_number)


def _constant(drawn: Sequence[Series]) -> bool:
    values = np.concatenate([np.asarray(series.values, float) for series in drawn])
    finite = values[np.isfinite(values)]
    return finite.size == 0 or bool(np.ptp(finite) <= 1e-3 * np.abs(finite).max())


def _number(value: float, _: float) -> str:
    """`0`, `2.5e-4`, `0.02`, `8200`, `26k`."""
    size = abs(value)
    if size >= 10000:
        return EngFormatter(sep="")(value)
    if 0 < size < 0.00999:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.6g}"


def _level_lines(
    axes: Axes, levels: Mapping[str, float]
) -> list[tuple[str, float, str]]:
    low, high = axes.get_ylim()
    visible = {name: value for name, value in levels.items() if low < value < high}
    for value in visible.values():
        axes.axhline(value, color=MUTED, lw=1, ls=(0, (4, 3)))
    return [(name, value, MUTED) for name, value in visible.items()]


def _write_labels(axes: Axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """Names at the right end of their lines, pushed apart where lines are close."""
    texts = [
        (_height(axes, value), f"{name} {value:.3g}", color)
        for name, value, color in labels
        if math.isfinite(value)
    ]
    if not texts:
        return
    widest = max(len(text) for _, text, _ in texts) * 0.58 * SIZE / 72 + 0.1  # inches
    left, bottom, _, height = axes.get_position().bounds
    axes.set_position((left, bottom, 1 - left - widest / WIDTH, height))
    for at, text, color in _apart(sorted(texts, reverse=True)):
        axes.annotate(
            text,
            (1, at),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=color,
            annotation_clip=False,
        )


def _apart(
    texts: Sequence[tuple[float, str, str]], *, gap: float = 0.08
) -> list[tuple[float, str, str]]:
    """The same labels, top first, `gap` apart and none below the axis."""
    heights: list[float] = []
    for height, _, _ in texts:
        heights.append(min([height, *(at - gap for at in heights[-1:])]))
    floor = 0.0
    for i in reversed(range(len(heights))):
        heights[i] = max(heights[i], floor)
        floor = heights[i] + gap
    return [
        (at, text, color) for at, (_, text, color) in zip(heights, texts, strict=True)
    ]


def _height(axes: Axes, value: float) -> float:
    """Where a value stands on the axis: 0 at its foot, 1 at its top."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        return math.log(value / low) / math.log(high / low) if value > 0 else 0.0
    return (value - low) / (high - low)


def _at_end(values: Sequence[float]) -> float:
    """The mean of the last twentieth, where a curve ends for the eye."""
    tail = np.asarray(values, float)[-max(1, len(values) // 20) :]
    tail = tail[np.isfinite(tail)]
    return float(tail.mean()) if tail.size else math.nan


def system_font(svg: str) -> str:
    """The reader's own sans-serif font in place of the one measured with."""
    return re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
