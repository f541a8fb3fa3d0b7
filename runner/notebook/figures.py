"""Pictures for a notebook, in the look of the report."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from runner.report.theme import COLORS, HEIGHT, STYLE, WIDTH


def over_steps(lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Return one picture of some lines, `(steps, values)` by name."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_subplot()
        for number, (name, (steps, values)) in enumerate(lines.items()):
            color = COLORS[number % len(COLORS)]
            axes.plot(steps, values, color=color, lw=1.6, label=name)
        axes.set_xlabel("step")
        axes.legend(frameon=False)
        return figure
