"""Metrics of several models: the table, `result.json` and the page."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import atomic_files, report
from runner.measuring.row import Measured
from runner.report.results import number, percent

TEACHER = "teacher/"


@dataclasses.dataclass(frozen=True)
class _Column:
    metric: str
    title: str
    show: Callable[[float], str]


_COLUMNS = (
    _Column("loss", "nats", number),
    _Column("perplexity", "perplexity", lambda x: number(x, 1)),
    _Column("bits_per_byte", "bits/byte", number),
    _Column("accuracy", "accuracy", percent),
    _Column("calibration_error", "ECE", percent),
    _Column("kl", "KL", number),
    _Column("agreement", "agreement", percent),
    _Column("gap_closed", "gap closed", percent),
)


def with_teacher(rows: Sequence[Measured]) -> list[Measured]:
    """Return the rows, and the teacher's own by evaluation, each of them once."""
    table = []
    for row in rows:
        of_teacher = {
            name.removeprefix(TEACHER): value
            for name, value in row.metrics.items()
            if name.startswith(TEACHER)
        }
        own = {k: v for k, v in row.metrics.items() if not k.startswith(TEACHER)}
        table.append(dataclasses.replace(row, metrics=own))
        is_there = any(
            x.model == "teacher" and x.evaluation == row.evaluation for x in table
        )
        if of_teacher and not is_there:
            table.append(Measured("teacher", row.evaluation, of_teacher))
    return table


def text(rows: Sequence[Measured]) -> str:
    """Format a table an evaluation, the worst loss first.

    held_out    nats  perplexity  accuracy    ECE     KL  agreement  gap closed
    start      5.719       304.7     0.3 %  0.1 %  1.204     10.2 %       0.0 %
    teacher    3.640        38.1    10.0 %  2.4 %      –          –           –
    """
    table = with_teacher(rows)
    names = list(dict.fromkeys(row.evaluation for row in table))
    parts = [_text(n, [row for row in table if row.evaluation == n]) for n in names]
    return "\n\n".join(parts)


def _text(evaluation: str, rows: Sequence[Measured]) -> str:
    rows = sorted(rows, key=lambda row: -row.metrics["loss"])
    own = dict.fromkeys(
        metric
        for row in rows
        for metric in row.metrics
        if metric.startswith("metrics/")
    )
    columns = [
        column
        for column in (
            *_COLUMNS,
            *(_Column(name, name.removeprefix("metrics/"), number) for name in own),
        )
        if any(column.metric in row.metrics for row in rows)
    ]
    lines = [[evaluation, *(column.title for column in columns)]]
    lines += [[row.model, *(_cell(row, column) for column in columns)] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cell(row: Measured, column: _Column) -> str:
    value = row.metrics.get(column.metric)
    return "–" if value is None else column.show(value)


def write(
    directory: Path, rows: Sequence[Measured], models: Mapping[str, Mapping[str, Any]]
) -> Path:
    """Write `result.json` and the page of the table; return the page's path.

    Args:
      directory: Of a graph's `config.txt`, which the page shows.
      rows: Metrics.
      models: What each model is, by name.

    Raises:
      UserError: A file of the directory is malformed or leads out of it.
    """
    content = {
        "evaluations": {
            f"{row.model} on {row.evaluation}": dict(row.metrics)
            for row in with_teacher(rows)
        },
        "models": {name: dict(described) for name, described in models.items()},
    }
    atomic_files.write_atomic(
        directory / "result.json", json.dumps(content, indent=1) + "\n"
    )
    return report.write(directory)
