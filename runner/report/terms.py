"""The table of terms on held-out data: before training, after it, of the teacher."""

import dataclasses
from collections.abc import Sequence

from runner.report import results, units
from runner.report.run import Run

_METRICS = "metrics/"
HEADS = ("untrained", "trained", "teacher")


@dataclasses.dataclass(frozen=True)
class TermRow:
    """A term on the rows of one evaluation; None where it was not measured.

    Attributes:
      name: Of the term.
      unit: Of its values, as in `"nats per token"`.
      values: In the order of `HEADS`.
    """

    name: str
    unit: str
    values: tuple[float | None, ...]

    @property
    def cells(self) -> list[str]:
        """Return the values as text."""
        return [results.number(value) for value in self.values]


def rows(run: Run, evaluation: str) -> list[TermRow]:
    """Return the terms in the order of the experiment, then metrics of one's own.

    None if none was measured.
    """
    trained, untrained = run.evaluations[evaluation], run.untrained(evaluation)

    def row(name: str, metric: str, unit: str) -> TermRow:
        values = untrained.get(metric), trained.get(metric)
        return TermRow(name, unit, (*values, trained.get(f"teacher/{metric}")))

    table = [
        row(name, f"terms/{name}", units.of_term(run, name))
        for name in run.terms
        if run.of_term(name, "loss")  # a group is no loss
    ]
    table += [
        row(metric.removeprefix(_METRICS), metric, f"average per {run.unit}")
        for metric in trained
        if metric.startswith(_METRICS)
    ]
    if all(value is None for row in table for value in row.values):
        return []
    return table


def notes(table: Sequence[TermRow]) -> list[str]:
    """Return a line on terms that were not measured."""
    names = [row.name for row in table if row.values[1] is None]
    if not names:
        return []
    return [f"not measured here, no records or no token: {', '.join(names)}"]


def text(run: Run) -> list[str]:
    """Return the lines of the tables of several terms, one an evaluation.

    held_out    untrained  trained  teacher
    ce              8.318    4.366    3.905  nats per token
    kl              4.402    0.461        –  nats per token
    """
    lines = []
    for evaluation in run.evaluations:
        table = rows(run, evaluation)
        if len(table) < 2:
            continue
        width = max(len(name) for name in (evaluation, *(row.name for row in table)))
        lines += ["", f"  {evaluation:{width}}  {'  '.join(f'{h:>9}' for h in HEADS)}"]
        lines += [
            f"  {row.name:{width}}  {'  '.join(f'{x:>9}' for x in row.cells)}"
            f"  {row.unit}"
            for row in table
        ]
        lines += [f"  {note}" for note in notes(table)]
    return lines
