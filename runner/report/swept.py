"""The picture of a sweep: what was reached, against the value that was swept."""

import dataclasses
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from runner.report import plot

_SHOWN_TICKS = 9
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.6)))


@dataclasses.dataclass(frozen=True)
class Line:
    """One setting of everything else.

    values: along the foot, in order; numbers, or anything that has a name.
    losses: None for a run without one, which is marked at `untrained`.
    """

    label: str
    values: Sequence[Any]
    losses: Sequence[float | None]
    untrained: float | None = None


def svg(lines: Sequence[Line], *, name: str, unit: str) -> str:
    """Losses against what is called `name`, a colour a line; for a light page."""
    labelled = any(line.label for line in lines)
    width = plot.WIDTH + (2.4 if labelled else 0.0)
    with mpl.rc_context(plot.STYLE):
        figure = Figure(figsize=(width, plot.HEIGHT + 0.3))
        share = (plot.WIDTH - 0.75) / width
        axes = figure.add_axes((0.6 / width, 0.19, share, 0.69))
        places = _places(lines)
        for line, (style, color) in zip(lines, _looks(lines), strict=False):
            _draw(axes, line, places=places, color=color, style=style)
        _foot(axes, lines, places=places, name=name)
        _level(axes, lines)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=plot.STEPS))
        if labelled:
            axes.legend(
                loc="upper left",
                bbox_to_anchor=(1.02, 1.02),
                frameon=False,
                labelcolor="linecolor",
                handlelength=1.6,
                borderaxespad=0.0,
            )
        figure.text(0, 0.985, unit, color=plot.MUTED, va="top")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return plot.system_font(buffer.getvalue())


def _draw(
    axes: Axes, line: Line, *, places: Mapping[Any, float], color: str, style: Any
) -> None:
    """Runs that ended well are joined, also past one that did not."""
    at = np.array([places[_key(value)] for value in line.values], float)
    losses = np.array([np.nan if x is None else x for x in line.losses], float)
    good = np.isfinite(losses)
    look = {"color": color, "ls": style if len(at) > 1 else "", "clip_on": False}
    axes.plot(
        at[good], losses[good], marker="o", ms=4, lw=1.6, label=line.label, **look
    )
    if line.untrained is not None and not good.all():
        top = np.full((~good).sum(), line.untrained)
        axes.plot(at[~good], top, "x", color=color, ms=6, mew=1.6, clip_on=False)


def _places(lines: Sequence[Line]) -> dict[Any, float]:
    """Where each value stands: numbers at themselves, others one after another."""
    values = [value for line in lines for value in line.values]
    if all(_is_number(value) for value in values):
        return {_key(value): float(value) for value in values}
    return {key: float(i) for i, key in enumerate(dict.fromkeys(map(_key, values)))}


def _foot(
    axes: Axes, lines: Sequence[Line], *, places: Mapping[Any, float], name: str
) -> None:
    axes.set_xlabel(name, color=plot.MUTED, labelpad=4)
    at = sorted(set(places.values()))
    if not all(_is_number(value) for line in lines for value in line.values):
        axes.set_xticks(at, [str(key)[:16] for key in places])
        axes.margins(x=0.08)
        return
    if logarithmic(at):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    if len(at) <= _SHOWN_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(at))
    axes.margins(x=0.05)


def _level(axes: Axes, lines: Sequence[Line]) -> None:
    """The loss at initialisation, where runs are marked at it."""
    marked = [
        line.untrained
        for line in lines
        if line.untrained is not None and any(loss is None for loss in line.losses)
    ]
    if not marked:
        return
    axes.axhline(marked[0], color=plot.MUTED, lw=1, ls=(0, (4, 3)), zorder=0)
    axes.annotate(
        "untrained; × diverged or failed",
        (0, marked[0]),
        xycoords=("axes fraction", "data"),
        xytext=(2, -4),
        textcoords="offset points",
        va="top",
        color=plot.MUTED,
    )


def logarithmic(values: Sequence[float]) -> bool:
    """Whether ordered values are spaced by ratios rather than by differences."""
    at = np.asarray(values, float)
    if len(at) < 2 or at[0] <= 0 or at[-1] < 4 * at[0]:
        return False
    if len(at) == 2:
        return True
    ratios, steps = np.diff(np.log(at)), np.diff(at)
    return bool(ratios.std() / ratios.mean() < steps.std() / steps.mean())


def number(value: float) -> str:
    """`0.003`, `1e-4`, `0`."""
    if value and abs(value) < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def _looks(lines: Sequence[Line]) -> Iterator[tuple[Any, str]]:
    """A style and a colour for each; one for all, where each is a single point."""
    if all(len(line.values) < 2 for line in lines):
        return itertools.repeat((_STYLES[0], plot.BLUE))
    return itertools.cycle(itertools.product(_STYLES, plot.COLORS))


def _key(value: Any) -> Any:
    return float(value) if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)
