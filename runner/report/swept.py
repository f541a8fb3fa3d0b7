"""The picture of a sweep: losses against the value that was swept."""

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

from runner.report import theme
from runner.report.sweep_units import short_call

LEGEND = 2.4  # inches, beside the picture
_SHOWN_TICKS = 9
_LONGEST = 12  # characters below the foot
_LONGEST_ROW = 50  # characters of all values at the foot
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.6)))


@dataclasses.dataclass(frozen=True)
class Line:
    """The runs of one setting of everything else.

    Attributes:
      label: In the legend.
      values: Along the foot, in order; numbers, or anything that has a name.
      losses: None for a run that has none.
      untrained: The loss at initialisation, if it is known.
    """

    label: str
    values: Sequence[Any]
    losses: Sequence[float | None]
    untrained: float | None = None


def svg(lines: Sequence[Line], *, name: str, unit: str) -> str:
    """Draw losses against the values of `name`, a colour a line; for a light page."""
    legend = LEGEND if any(line.label for line in lines) else 0.0
    width, height = theme.WIDTH + legend, theme.HEIGHT + 0.3
    with mpl.rc_context(theme.STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0.6 / width, 0.19, (theme.WIDTH - 0.75) / width, 0.66))
        places = _places(lines)
        for line, (style, color) in zip(lines, _looks(lines), strict=False):
            _draw(axes, line, places=places, color=color, style=style)
        _foot(axes, lines, places=places, name=name)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=theme.STEPS))
        if legend:
            axes.legend(
                loc="upper left",
                bbox_to_anchor=(1.02, 1.02),
                frameon=False,
                labelcolor="linecolor",
                handlelength=1.6,
                borderaxespad=0.0,
            )
        # No date in the file: the same curves give the same bytes.
        figure.text(0, 0.985, _caption(lines, unit), color=theme.MUTED, va="top")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return theme.system_font(buffer.getvalue())


def _draw(
    axes: Axes, line: Line, *, places: Mapping[Any, float], color: str, style: Any
) -> None:
    """Join runs that learnt where the foot has an order; draw others as crosses.

    Crosses stand at the upper edge: at their height they would press the rest flat.
    """
    at = np.array([places[_key(value)] for value in line.values], float)
    losses = np.array([np.nan if x is None else x for x in line.losses], float)
    modules = np.array([not _failed(line, x) for x in line.losses], bool)
    joined = all(map(_is_number, line.values)) and len(at) > 1
    look = {"color": color, "ls": style if joined else "", "clip_on": False}
    look_of_line = {"marker": "o", "ms": 4, "lw": 1.6, "label": line.label, **look}
    axes.plot(at[modules], losses[modules], **look_of_line)
    edge = axes.get_xaxis_transform()  # 1 is the upper edge.
    crosses = {"color": color, "ms": 6, "mew": 1.6, "clip_on": False}
    axes.plot(at[~modules], np.ones((~modules).sum()), "x", transform=edge, **crosses)


def _failed(line: Line, loss: float | None) -> bool:
    """Return whether a run has no loss, or a worse one than before its first step."""
    if loss is None or not math.isfinite(loss):
        return True
    return line.untrained is not None and loss > line.untrained


def _caption(lines: Sequence[Line], unit: str) -> str:
    """Return the unit, and the meaning of a cross where there is one."""
    if not any(_failed(line, loss) for line in lines for loss in line.losses):
        return unit
    levels = [line.untrained for line in lines if line.untrained is not None]
    level = f" ({levels[0]:.2f})" if levels else ""
    return f"{unit};  × failed, or worse than untrained{level}"


def _places(lines: Sequence[Line]) -> dict[Any, float]:
    """Return the place of each value: of a number itself, of others their rank.

    So do a few numbers that neither a linear nor a logarithmic axis keeps apart, such
    as 0, 1e-4 and 1e-2.
    """
    values = [value for line in lines for value in line.values]
    keys = list(dict.fromkeys(map(_key, values)))
    if all(map(_is_number, values)):
        keys = sorted(keys)
        crowded = len(keys) > 1 and min(np.diff(keys)) < 0.08 * (keys[-1] - keys[0])
        if logarithmic(keys) or not crowded or len(keys) > _SHOWN_TICKS:
            return {key: key for key in keys}
    return {key: float(i) for i, key in enumerate(keys)}


def _foot(
    axes: Axes, lines: Sequence[Line], *, places: Mapping[Any, float], name: str
) -> None:
    axes.set_xlabel(name, color=theme.MUTED, labelpad=4)
    axes.margins(x=0.06, y=0.08)
    values = list(places)
    if list(places.values()) != values:
        longest = max(_LONGEST, _LONGEST_ROW // len(values))
        axes.set_xticks(
            list(places.values()), [_short(value, longest) for value in values]
        )
        return
    if logarithmic(values):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    if len(values) <= _SHOWN_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(values))


def _short(value: Any, longest: int) -> str:
    if _is_number(value):
        return number(value)
    text = short_call(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def logarithmic(values: Sequence[float]) -> bool:
    """Return whether ordered values are spaced by ratios rather than differences."""
    at = np.asarray(values, float)
    if len(at) < 2 or at[0] <= 0 or at[-1] < 4 * at[0]:
        return False
    if len(at) == 2:
        return True
    ratios, steps = np.diff(np.log(at)), np.diff(at)
    return bool(ratios.std() / ratios.mean() < steps.std() / steps.mean())


def number(value: float) -> str:
    """Format a number: `0.003`, `1e-4`, `0`."""
    if value and abs(value) < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def _looks(lines: Sequence[Line]) -> Iterator[tuple[Any, str]]:
    """Return a style and a colour for each; one for all single points."""
    if all(len(line.values) < 2 for line in lines):
        return itertools.repeat((_STYLES[0], theme.BLUE))
    return itertools.cycle(itertools.product(_STYLES, theme.COLORS))


def _key(value: Any) -> Any:
    return float(value) if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)
