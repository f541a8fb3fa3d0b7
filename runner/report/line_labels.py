"""Labels at the right end of the lines of a picture."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runner.report.theme import SIZE, WIDTH

_LEAST = 0.5  # of the usual width, for the curves


def write_labels(axes: Axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """Write names at the right end of their lines, apart where lines are close.

    Args:
      axes: The picture; it is narrowed to make room, and the figure made wider where
        that would leave the curves less than half of it.
      labels: Name, value and colour of each line; one that is not finite is left out.
    """
    texts = [
        (_height(axes, value), f"{name} {value:.3g}", color)
        for name, value, color in labels
        if math.isfinite(value)
    ]
    if not texts:
        return
    widest = max(len(text) for _, text, _ in texts) * 0.58 * SIZE / 72 + 0.1  # inches
    left, bottom, _, height = axes.get_position().bounds
    left *= WIDTH
    width = max(WIDTH, left + _LEAST * WIDTH + widest)
    assert isinstance(axes.figure, Figure)
    axes.figure.set_figwidth(width)
    axes.set_position((left / width, bottom, 1 - (left + widest) / width, height))
    for at, text, color in spread(sorted(texts, reverse=True)):
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


def spread(
    texts: Sequence[tuple[float, str, str]], *, gap: float = 0.08
) -> list[tuple[float, str, str]]:
    """Return the same labels, top first, `gap` apart and none below the axis."""
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
    """Return the height of a value on the axis: 0 at its foot, 1 at its top."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        return math.log(value / low) / math.log(high / low) if value > 0 else 0.0
    return (value - low) / (high - low)
