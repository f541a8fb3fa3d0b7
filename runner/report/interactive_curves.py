"""The curves of a page that a reader can turn: hover, toggle, zoom, logarithms.

Drawn by uPlot 1.6.32 (MIT; `interactive/uplot.LICENSE`), the smallest library with all
of it: 51 kB, and nothing is fetched. What a run wrote is JSON in an inert element; the
page's policy names the one script that may run by its hash (`page.document`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.report import chart, theme
from runner.report.chart import Chart
from runner.report.run import Run, Series

POINTS = 1000  # of a curve, at most twice as many: a screen shows no more
_FOLDER = Path(__file__).parent / "interactive"


def html(
    names: Sequence[str], runs: Sequence[Run], charts: Sequence[Chart], *, unit: str
) -> str:
    """Return the element that `script` fills, with the numbers beside it.

    Args:
      names: Of the runs.
      runs: In the same order.
      charts: Of these runs.
      unit: The name of a target: `"token"`.
    """
    style = (_FOLDER / "uplot.min.css").read_text() + _text("curves.css") + _colors()
    return (
        f"<style>{style}</style>\n"
        '<h2>Curves</h2>\n<div id="charts"></div>\n'
        '<noscript><p class="meta">The curves need JavaScript; the pictures below are '
        "the same ones.</p></noscript>\n"
        '<script type="application/json" id="curves">'
        f"{_inert(_model(names, runs, charts, unit))}</script>\n"
    )


def script() -> str:
    """Return all that runs on the page: uPlot, and our own use of it."""
    return _text("uplot.min.js") + _text("curves.js")


def _text(name: str) -> str:
    return (_FOLDER / name).read_text()


def _inert(value: Any) -> str:
    """Return JSON that holds no markup, so that nothing in it can end its element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _colors() -> str:
    light = "".join(f"--c{i}: {color}; " for i, color in enumerate(theme.COLORS))
    dark = "".join(
        f"--c{i}: {theme.DARK[color]}; " for i, color in enumerate(theme.COLORS)
    )
    media = "@media (prefers-color-scheme: dark)"
    return f":root {{ {light}}}\n{media} {{ :root {{ {dark}}} }}\n"


def _model(
    names: Sequence[str], runs: Sequence[Run], charts: Sequence[Chart], unit: str
) -> dict[str, Any]:
    grids: dict[tuple[int, ...], int] = {}

    def curve(number: int, series: Series) -> dict[str, Any]:
        thinned = _thin(series)
        grid = grids.setdefault(tuple(thinned.steps), len(grids))
        return {"run": number, "grid": grid, "values": _numbers(thinned.values)}

    listed = [
        {
            "section": one.section,
            "title": one.title,
            "unit": one.unit,
            "curves": [curve(i, line) for i, line in one.lines.items()],
            "levels": list(one.levels.items()),
        }
        for one in charts
    ]
    return {
        "unit": unit,
        "open": chart.OPEN,
        "runs": [_run(name, run) for name, run in zip(names, runs, strict=True)],
        "charts": listed,
        "grids": [list(grid) for grid in grids],
    }


def _run(name: str, run: Run) -> Mapping[str, Any]:
    """Return what places the steps of a run on the other axes; None: not known."""
    clock = chart.clock(run)
    thinned = _thin(clock) if clock else None
    return {
        "name": name,
        "targets": run.costs.targets_per_step,
        "flops": run.costs.flops_per_step,
        "clock": thinned and [list(thinned.steps), _numbers(thinned.values)],
    }


def _thin(series: Series) -> Series:
    """Return every so many points of a curve, and its last."""
    stride = max(1, len(series.steps) // POINTS)
    steps, values = list(series.steps[::stride]), list(series.values[::stride])
    if steps[-1] != series.steps[-1]:
        steps.append(series.steps[-1])
        values.append(series.values[-1])
    return Series(steps, values)


def _numbers(values: Sequence[float]) -> list[float | None]:
    """Return values to five digits; None is a gap."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]
