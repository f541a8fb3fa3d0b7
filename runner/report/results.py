"""The final table: evaluations among baselines, worst first."""

import dataclasses
import math
from collections.abc import Sequence

from runner.report.run import Run


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table; None where a method has no such number.

    trained: whether it is the model of this run rather than a baseline.
    """

    name: str
    nats_per_token: float | None
    bits_per_byte: float | None
    trained: bool = False

    @property
    def perplexity(self) -> float | None:
        """`exp(nats per token)`."""
        nats = self.nats_per_token
        return math.exp(nats) if nats is not None and nats < 100 else None


def rows(run: Run) -> list[Row]:
    """Sorted by bits per byte, the one number every method has; best last."""
    found = [
        Row(
            name=name,
            nats_per_token=metrics.get("loss"),
            bits_per_byte=metrics.get("bits_per_byte"),
            trained=True,
        )
        for name, metrics in run.evaluations.items()
    ]
    found += [Row(b.name, b.nats_per_token, b.bits_per_byte) for b in run.baselines]
    return sorted(found, key=badness, reverse=True)


def notes(run: Run) -> list[str]:
    """What a table of losses leaves out: accuracy and calibration."""
    lines = []
    for name, metrics in run.evaluations.items():
        parts = [
            f"{label} {show(metrics[key])}"
            for key, label, show in SHARES
            if metrics.get(key) is not None
        ]
        if parts:
            lines.append(f"{name}: {', '.join(parts)}")
    return lines


def number(value: float | None, digits: int = 3) -> str:
    """Fixed point; an en dash for what is not known."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """`23.1 %`."""
    return f"{100 * value:.1f} %"


SHARES = (
    ("accuracy", "top-1 accuracy", percent),
    ("calibration_error", "calibration error", percent),
)


def text(table: Sequence[Row], *, notes: Sequence[str] = ()) -> str:
    """The table in plain text, the run's own rows marked.

                 nats/token  perplexity  bits/byte
      unigram         6.902       994.3      2.674
    > held_out        4.366        78.7      1.691
      xz                  –           –      1.601
    """
    if not table:
        return "no evaluation yet"
    width = max(len(row.name) for row in table)
    lines = [f"  {'':{width}}  nats/token  perplexity  bits/byte"]
    lines += [
        f"{'>' if row.trained else ' '} {row.name:{width}}"
        f"  {number(row.nats_per_token):>10}"
        f"  {number(row.perplexity, 1):>10}"
        f"  {number(row.bits_per_byte):>9}"
        for row in table
    ]
    return "\n".join([*lines, *([""] if notes else []), *(f"  {n}" for n in notes)])


def badness(row: Row) -> tuple[float, float]:
    """What rows are sorted by: bits per byte, then nats per token; unknown is worst."""
    bits, nats = row.bits_per_byte, row.nats_per_token
    return (
        math.inf if bits is None or math.isnan(bits) else bits,
        math.inf if nats is None or math.isnan(nats) else nats,
    )
