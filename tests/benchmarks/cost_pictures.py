"""The page of costs: pictures and tables of what `costs_bench` measured."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from runner.report.plot import saved
from runner.report.theme import BLUE, INK, MEASURED, MUTED, STYLE
from tests.drawn import Drawn

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Point(NamedTuple):
    """Costs at one size.

    Attributes:
      size: Of what grows.
      tokens: Of a step.
      rate: Tokens a second of processor time, the median.
      slowest: Of all rounds.
      fastest: Of all rounds.
      temporaries: MiB.
      arguments: MiB.
    """

    size: int
    tokens: int
    rate: float
    slowest: float
    fastest: float
    temporaries: float
    arguments: float


def line(point: Point) -> str:
    """Return a line of a table for a terminal."""
    return (
        f"{point.size:>10,}{point.rate:>12,.0f}{point.temporaries:>12,.0f} MiB"
        f"{point.arguments:>10,.0f} MiB"
    )


def write(name: str, points: Sequence[Point], what: str) -> None:
    """Write the picture of a thing that grew, and its table into the page."""
    folder = DOCS / "costs"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.svg").write_bytes(picture(points, what))
    table(name).write(rows(points))


def table(name: str) -> Drawn:
    """Return the part of the page that is a table."""
    return Drawn(
        DOCS / "costs.md",
        begin=f"<!-- {name}: measured by `make costs` -->",
        end=f"<!-- end of {name} -->",
    )


def rows(points: Sequence[Point]) -> str:
    """Return a table of the page."""
    head = "| size | tokens/s | min - max | temporaries, MiB | arguments, MiB |"
    lines = [
        f"| {p.size:,} | {p.rate:,.0f} | {p.slowest:,.0f} - {p.fastest:,.0f} "
        f"| {p.temporaries:,.0f} | {p.arguments:,.0f} |"
        for p in points
    ]
    return "\n".join(["", head, "|---|---|---|---|---|", *lines, ""])


def picture(points: Sequence[Point], what: str) -> bytes:
    """Return an SVG file: tokens a second at the left, memory at the right."""
    sizes = [point.size for point in points]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.4))
        rate, memory = (
            figure.add_axes((left, 0.2, 0.4, 0.62)) for left in (0.07, 0.57)
        )
        rate.fill_between(
            sizes,
            [point.slowest for point in points],
            [point.fastest for point in points],
            color=BLUE,
            alpha=0.15,
            linewidth=0,
        )
        rate.plot(sizes, [point.rate for point in points], "o-", color=BLUE, ms=4)
        rate.set_title("tokens a second of processor time", loc="left", fontsize=9.5)
        parts = ("temporaries", "arguments")
        for part, color in zip(parts, itertools.cycle(MEASURED)):
            values = [getattr(point, part) for point in points]
            memory.plot(sizes, values, "o-", color=color, ms=4, label=part)
        memory.set_title("MiB of a device", loc="left", fontsize=9.5)
        memory.legend(frameon=False, labelcolor=INK, fontsize=8.5)
        for axes in (rate, memory):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
            axes.set_ylim(bottom=0)
            axes.set_xlabel(what, color=MUTED, fontsize=8.5)
        return saved(figure)
