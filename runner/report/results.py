"""The final table: evaluations among baselines, worst first."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from runner.files.printable import printable
from runner.report.run import Run
from runner.report.units import of_loss


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table; None where a method has no such number.

    Attributes:
      name: Of the evaluation, or of the baseline.
      nats_per_token: The loss.
      bits_per_byte: The loss in bits per byte of text.
      trained: True for the model of this run, false for a baseline.
      accuracy: Share of targets that are the most probable output.
    """

    name: str
    nats_per_token: float | None
    bits_per_byte: float | None
    trained: bool = False
    accuracy: float | None = None

    @property
    def perplexity(self) -> float | None:
        """Return `exp(nats per token)`."""
        nats = self.nats_per_token
        return math.exp(nats) if nats is not None and nats < 100 else None


def rows(run: Run) -> list[Row]:
    """Sort runs and baselines by a number that all have; best last."""
    table = [
        Row(
            name=name,
            nats_per_token=metrics.get("loss"),
            bits_per_byte=metrics.get("bits_per_byte"),
            trained=True,
            accuracy=metrics.get("accuracy"),
        )
        for name, metrics in run.evaluations.items()
    ]
    if run.best is not None and run.best.step != run.end:
        best = run.best.metrics
        row = Row(
            name=f"{run.best.evaluation}, best (step {run.best.step:,})",
            nats_per_token=best.get("loss"),
            bits_per_byte=best.get("bits_per_byte"),
            trained=True,
            accuracy=best.get("accuracy"),
        )
        table.append(row)
    table += [
        Row(b.name, b.nats_per_token, b.bits_per_byte, accuracy=b.accuracy)
        for b in run.baselines
    ]
    return sorted(table, key=badness, reverse=True)


def notes(run: Run) -> list[str]:
    """Return lines on accuracy, calibration and terms that a table of losses omits."""
    lines = []
    for name, metrics in run.evaluations.items():
        parts = [
            f"{label} {show(value)}"
            for key, label, show in SHARES
            if (value := metrics.get(key)) is not None
        ]
        if parts:
            lines.append(f"{name}: {', '.join(parts)}")
    return [*lines, *run.notices]


def number(value: float | None, digits: int = 3) -> str:
    """Format in fixed point; an unknown number as an en dash."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """Format a share: `23.1 %`."""
    return f"{100 * value:.1f} %"


SHARES = (
    ("accuracy", "top-1 accuracy", percent),
    ("calibration_error", "calibration error", percent),
    ("agreement", "agreement with the teacher", percent),
    ("kl", "KL from the teacher", lambda nats: f"{number(nats)} nats"),
    ("gap_closed", "gap to the teacher closed", percent),
)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table: its head, what stands in a row, what a bar shows."""

    title: str
    cell: Callable[[Row], str]


def columns(unit: str, table: Sequence[Row]) -> list[Column]:
    """Return the columns for text, or for anything that has classes.

    One without a number in any row is left out, but for the first.
    """
    first, *others = _columns(unit)
    some = [c for c in others if any(c.cell(row) != number(None) for row in table)]
    return [first, *some]


def _columns(unit: str) -> list[Column]:
    nats = Column(
        of_loss(unit).replace(" per ", "/"), lambda row: number(row.nats_per_token)
    )
    if unit != "token":
        return [nats, Column("accuracy", lambda row: _share(row.accuracy))]
    return [
        nats,
        Column("perplexity", lambda row: number(row.perplexity, 1)),
        Column("bits/byte", lambda row: number(row.bits_per_byte)),
    ]


def length(row: Row, unit: str) -> float | None:
    """Return the length of a row's bar; less is better, as in `badness`."""
    if unit == "token":
        return row.bits_per_byte
    return None if row.accuracy is None else 1.0 - row.accuracy


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def text(
    table: Sequence[Row], *, notes: Sequence[str] = (), unit: str = "token"
) -> str:
    """Format the table in plain text, the run's own rows marked.

                 nats/token  perplexity  bits/byte
      unigram         6.902       994.3      2.674
    > held_out        4.366        78.7      1.691
      xz                  –           –      1.601
    """
    if not table:
        return "no evaluation yet"
    width = max(len(row.name) for row in table)
    listed = columns(unit, table)
    lines = [f"  {'':{width}}  " + "  ".join(column.title for column in listed)]
    lines += [
        f"{'>' if row.trained else ' '} {row.name:{width}}  "
        + "  ".join(f"{c.cell(row):>{len(c.title)}}" for c in listed)
        for row in table
    ]
    lines += [*([""] if notes else []), *(f"  {note}" for note in notes)]
    return printable("\n".join(lines))


def badness(row: Row) -> tuple[float, float, float]:
    """Return the sort key: bits per byte, else accuracy, nats; unknown is worst."""
    bits, nats = row.bits_per_byte, row.nats_per_token
    return (
        math.inf if bits is None or math.isnan(bits) else bits,
        1.0 if row.accuracy is None else -row.accuracy,
        math.inf if nats is None or math.isnan(nats) else nats,
    )
