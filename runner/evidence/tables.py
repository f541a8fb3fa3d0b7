"""Comparisons over seeds for a terminal, a page, papers and programs."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from runner.evidence.comparison import Comparison, Row
from runner.evidence.intervals import Spread
from runner.report.results import number

HEADS = ("setting", "seeds", "mean", "sd", "95 % interval", "minus baseline", "95 %")
_OF_ONE = 5  # the columns of a single setting, which is compared with none
_NOTE = "sd over seeds; intervals by the bootstrap (arXiv:1411.5279)"
_STAR = "* best, and its 95 % interval of paired differences excludes zero"


def title(one: Comparison) -> str:
    """Return the metric, and the baseline where settings are compared."""
    return one.metric + (f", baseline {one.baseline}" if one.rows[1:] else "")


def rows(one: Comparison) -> list[list[str]]:
    """Return the heads, and the cells of every row."""
    count = len(HEADS) if one.rows[1:] else _OF_ONE
    return [list(HEADS[:count]), *(_cells(row)[:count] for row in one.rows)]


def note(comparisons: Sequence[Comparison]) -> str:
    """Return the line below the tables."""
    several = any(one.rows[1:] for one in comparisons)
    return f"{_STAR}; {_NOTE}" if several else _NOTE


def _cells(row: Row) -> list[str]:
    spread, difference = row.spread, row.difference
    return [
        row.setting + (" *" if row.is_certain else ""),
        str(spread.count if spread else 0),
        _number(spread.mean) if spread else number(None),
        _number(spread.deviation) if spread else number(None),
        _interval(spread),
        "" if difference is None else _number(difference.mean, sign="+"),
        "" if difference is None else _interval(difference),
    ]


def text(comparisons: Sequence[Comparison]) -> str:
    """Return the tables for a terminal."""
    parts = []
    for one in comparisons:
        body = rows(one)
        widths = [max(map(len, column)) for column in zip(*body, strict=True)]
        lines = [
            "    "
            + f"{first:{widths[0]}}  "
            + "  ".join(f"{x:>{w}}" for x, w in zip(rest, widths[1:], strict=True))
            for first, *rest in body
        ]
        head = f"  {title(one)}"
        parts.append("\n".join([head, *(line.rstrip() for line in lines)]))
    return "\n\n".join([*parts, f"  {note(comparisons)}"]) if parts else ""


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the tables for `sweep.md`."""
    parts = []
    for one in comparisons:
        heads, *body = rows(one)
        rule = ["---", *["---:"] * (len(heads) - 1)]
        table = "\n".join(
            "| " + " | ".join(cell.replace("*", "\\*") for cell in row) + " |"
            for row in (heads, rule, *body)
        )
        parts.append(f"## {title(one)}\n\n{table}")
    line = note(comparisons).replace("*", "\\*")
    return "\n\n".join([*parts, line]) if parts else ""


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Return one line for each metric and setting, numbers in full."""
    file = io.StringIO()
    records = to_json(comparisons)
    if records:
        writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return file.getvalue()


def to_json(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return one record for each metric and setting; what is unknown is None."""
    return [
        {
            "metric": one.metric,
            "baseline": one.baseline,
            "setting": row.setting,
            **_numbers("", row.spread),
            **_numbers("difference_", row.difference),
            "best": row.is_best,
            "certain": row.is_certain,
        }
        for one in comparisons
        for row in one.rows
    ]


def latex(comparisons: Sequence[Comparison]) -> str:
    """Return a `tabular` for each metric; `booktabs` draws its rules."""
    return "\n".join(_tabular(one) for one in comparisons)


def _tabular(one: Comparison) -> str:
    heads, *body = (" & ".join(map(_escaped, row)) + r" \\" for row in rows(one))
    lines = [
        f"% {title(one)}; {note([one])}",
        rf"\begin{{tabular}}{{l{'r' * heads.count(' & ')}}}",
        r"\toprule",
        heads,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(cell: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    special |= {"^": r"\textasciicircum{}", "–": "--"}
    special |= {c: f"\\{c}" for c in "&%$#_{}"}
    return "".join(special.get(character, character) for character in cell)


def _interval(spread: Spread | None) -> str:
    if spread is None or math.isnan(spread.low):
        return "–"
    return f"[{_number(spread.low)}, {_number(spread.high)}]"


def _number(value: float, sign: str = "") -> str:
    """Format to four decimals, or five digits where that is fewer."""
    if math.isnan(value):
        return number(None)
    size = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:{sign},.{min(4, max(4 - size, 0))}f}"


def _numbers(prefix: str, spread: Spread | None) -> dict[str, float | int | None]:
    names = ("count", "mean", "deviation", "low", "high")
    values = {name: getattr(spread, name, None) for name in names}
    return {
        f"{prefix}{name}": None if value is None or math.isnan(value) else value
        for name, value in values.items()
    }
