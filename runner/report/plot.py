"""Curves as an SVG, in colours that have a dark twin.

A faint line is every logged point, the strong line a moving average. Numbers and
labels are text in the picture, so they stay sharp and can be searched.
"""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from runner.report.line_labels import write_labels
from runner.report.run import Series
from runner.report.smoothing import (
    end_mean,
    is_constant,
    is_noisy,
    is_wide,
    smoothed,
    thin,
)
from runner.report.theme import (
    BLUE,
    COLORS,
    DASHES,
    HEIGHT,
    MEASURED,
    MUTED,
    STEPS,
    STYLE,
    WIDTH,
    system_font,
)


def svg(
    series: Series | None,
    *,
    unit: str,
    points: Mapping[str, Series],
    levels: Mapping[str, float],
    scale: Literal["linear", "fitting"] = "fitting",
) -> str:
    """Return a curve over steps, as the text of an SVG file for a light page.

    Args:
      series: Logged every few steps, and noisy.
      unit: Of all values, written above the axis.
      points: Measured now and then, by name; a name `""` is not written.
      levels: Horizontal lines by name, left out where they would stretch the axis.
      scale: `"fitting"`: logarithmic where that fits a series better.
    """
    with mpl.rc_context(STYLE):
        axes = _axes()
        labels = []
        if series is not None:
            steps, values = np.asarray(series.steps), np.asarray(series.values, float)
            if scale == "fitting" and is_wide(values):
                axes.set_yscale("log")
            _line(axes, steps, values)
            labels += [("training", end_mean(series.values), BLUE)] if points else []
        for (name, other), color in zip(points.items(), itertools.cycle(MEASURED)):
            look = {"color": color, "markersize": 4, "lw": 1.6, "clip_on": False}
            axes.plot(other.steps, other.values, "o-", **look)
            labels += [(name, end_mean(other.values[-1:]), color)] if name else []
        _scale(axes, [s for s in (series, *points.values()) if s is not None])
        figure = _labelled(axes, unit=unit, labels=labels, levels=levels)
        return saved(figure).decode()


def compared(
    lines: Mapping[str, Series],
    *,
    unit: str,
    levels: Mapping[str, float],
    numbers: Sequence[int] = (),
) -> Figure:
    """Draw curves of several runs, as logged; `saved` makes a file of the figure.

    The steep first fifth may leave the picture.

    Args:
      lines: By the name of the run.
      unit: Of all values.
      levels: Horizontal lines by name, left out where they would stretch the axis.
      numbers: Of the runs, which give color and dashes; by default their places.
    """
    with mpl.rc_context(STYLE):
        axes = _axes()
        labels, tops = [], []
        places = numbers or range(len(lines))
        for number, (name, line) in zip(places, lines.items(), strict=True):
            color = COLORS[number % len(COLORS)]
            look = {"color": color, "ls": DASHES[number % len(DASHES)], "lw": 1.4}
            values = np.asarray(line.values, float)
            axes.plot(*thin(np.asarray(line.steps), values), **look)
            labels.append((name, end_mean(line.values), color))
            tops.append(np.nanmax([-math.inf, *values[len(values) // 5 :]]))
        _scale(axes, list(lines.values()))
        if math.isfinite(top := max(tops)) and top > axes.get_ylim()[0]:
            axes.set_ylim(top=top)
        return _labelled(axes, unit=unit, labels=labels, levels=levels)


def saved(figure: Figure, kind: Literal["svg", "pdf"] = "svg") -> bytes:
    """Return the file of a figure; no date in it, so that equal curves are equal."""
    with mpl.rc_context(STYLE):
        dated = {"svg": "Date", "pdf": "CreationDate"}
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format=kind, transparent=True, metadata={dated[kind]: None}
        )
        data = buffer.getvalue()
        return system_font(data.decode()).encode() if kind == "svg" else data


def _axes() -> Axes:
    return Figure(figsize=(WIDTH, HEIGHT)).add_axes((0.115, 0.13, 0.85, 0.75))


def _labelled(
    axes: Axes,
    *,
    unit: str,
    labels: Sequence[tuple[str, float, str]],
    levels: Mapping[str, float],
) -> Figure:
    write_labels(axes, [*labels, *_level_lines(axes, levels)])
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.text(0, 0.985, unit, color=MUTED, va="top")
    return figure


def _line(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    steps, values = thin(steps, values)
    log = axes.get_yscale() == "log"
    if len(values) < 60 or not is_noisy(np.log(values) if log else values):
        axes.plot(steps, values, color=BLUE, lw=1.8)
        return
    axes.plot(steps, values, color=BLUE, lw=0.8, alpha=0.35)
    axes.plot(steps, smoothed(values, log=log), color=BLUE, lw=1.8)


def _scale(axes: Axes, lines: Sequence[Series]) -> None:
    axes.set_xlim(0, max([1, *(series.steps[-1] for series in lines)]))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=STEPS))
    short = EngFormatter(sep="")
    axes.xaxis.set_major_formatter(
        lambda step, _: short(step) if step else "step 0"  # The axis is named there.
    )
    if axes.get_yscale() == "log":
        low, high = axes.get_ylim()
        subs = (1.0, 2.0, 5.0) if high < 50 * low else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        low, high = axes.get_ylim()
        if high - low < 0.2 * max(abs(high), abs(low)) and is_constant(
            [series.values for series in lines]
        ):
            axes.set_ylim(min(0.0, 1.2 * low), max(0.0, 1.2 * high))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.yaxis.set_major_formatter(_number)


def _number(value: float, _: float) -> str:
    """Format a tick: `0`, `2.5e-4`, `0.02`, `8200`, `26k`."""
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
