"""Pictures for a notebook, in the look of the report."""

import io
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from runner.report.theme import COLORS, HEIGHT, STYLE, WIDTH


class Picture(Figure):
    """A figure that a notebook shows as a cell's result.

    That of matplotlib is shown only once `pyplot` has drawn something before.
    """

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", bbox_inches="tight")
        return content.getvalue()


def over_steps(lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Picture:
    """Return one picture of some lines, `(steps, values)` by name."""
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(WIDTH, HEIGHT))
        axes = figure.add_subplot()
        for number, (name, (steps, values)) in enumerate(lines.items()):
            color = COLORS[number % len(COLORS)]
            axes.plot(steps, values, color=color, lw=1.6, label=name)
        axes.set_xlabel("step")
        axes.legend(frameon=False)
        return figure
