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

    def cells(self, columns: Sequence[int]) -> list[str]:
        """Return the values of some columns as text."""
        return [results.number(self.values[i]) for i in columns]


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
        row(name, metric, units.of_metric(run, evaluation, name))
        for metric in trained
        if (name := metric.removeprefix(_METRICS)) != metric
    ]
    if all(value is None for row in table for value in row.values):
        return []
    return table


def columns(table: Sequence[TermRow]) -> list[int]:
    """Return the places in `HEADS` of the columns that have a value."""
    places = range(len(HEADS))
    return [i for i in places if any(row.values[i] is not None for row in table)]


def notes(run: Run, table: Sequence[TermRow]) -> list[str]:
    """Return lines on terms that were not measured, and on those of the teacher."""
    lines = []
    if names := [row.name for row in table if row.values[1] is None]:
        missing = "no records, no column or no token"
        lines.append(f"not measured here, {missing}: {', '.join(names)}")
    # Of the teacher: what its logits alone give, if it is a model.
    measured = [row for row in table if row.values[1] is not None]
    unknown = [row.name for row in measured if row.values[2] is None]
    if len(unknown) < len(measured) and unknown:
        lines.append(f"not to be had from a teacher's logits: {', '.join(unknown)}")
    elif unknown and run.config.get("teacher", "None") != "None":
        lines.append("no column of the teacher: no whole rows of its logits are here")
    return lines


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
        shown = columns(table)
        heads = "  ".join(f"{HEADS[i]:>9}" for i in shown)
        lines += ["", f"  {evaluation:{width}}  {heads}"]
        lines += [
            f"  {row.name:{width}}  {'  '.join(f'{x:>9}' for x in row.cells(shown))}"
            f"  {row.unit}"
            for row in table
        ]
        lines += [f"  {note}" for note in notes(run, table)]
    return lines
