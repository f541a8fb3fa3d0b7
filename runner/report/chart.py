"""Curves of several runs, chart by chart: for the page, and for pictures of it."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from runner.report import curves, units
from runner.report.run import Run, Series
from runner.writers.console import split_evaluation

HELD_OUT, TERMS = "Held out", "Loss terms in training"
SECTIONS = (HELD_OUT, TERMS, "Weights", "Optimization", "Machine", "Other")
OPEN = (HELD_OUT, TERMS)
"""Sections that stand open, and whose charts are drawn as pictures too."""

_SECTION_OF = {
    "learning": TERMS,
    "weights": "Weights",
    "optimizer": "Optimization",
    "speed": "Machine",
    "moe": "Machine",
}
_UNITS = {"bits_per_byte": "bits per byte"}
_UNITS["perplexity"] = "exp of nats per token"
_TEACHER = "teacher/"


@dataclasses.dataclass(frozen=True)
class Chart:
    """A metric of several runs.

    Attributes:
      section: The heading it stands under.
      name: Of the metric.
      title: The same for a reader.
      unit: Of the values; several where the runs differ in it.
      lines: By the number of the run.
      levels: The teachers' own values by name; the last that each run measured.
    """

    section: str
    name: str
    title: str
    unit: str
    lines: Mapping[int, Series]
    levels: Mapping[str, float]


def charts(runs: Sequence[Run]) -> list[Chart]:
    """Return every metric that has a curve in some run, section by section."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    drawn = [chart for name in names if (chart := _chart(name, runs))]
    return sorted(drawn, key=lambda chart: SECTIONS.index(chart.section))


def _chart(name: str, runs: Sequence[Run]) -> Chart | None:
    evaluation, metric = split_evaluation(name)
    if metric.startswith(_TEACHER) or metric == "share":
        return None
    lines = {i: run.metrics[name] for i, run in enumerate(runs) if name in run.metrics}
    varies = any(len(set(line.values)) > 1 for line in lines.values())
    # A weight that stands still is no curve; a loss that does is worth seeing.
    if not varies and name.startswith("weights/"):
        return None
    if max(len(line.steps) for line in lines.values()) < 2:
        return None
    group, _, rest = name.partition("/")
    section = HELD_OUT if evaluation else _SECTION_OF.get(group, "Other")
    shown = metric.replace("terms/", "term ").replace("metrics/", "metric ")
    title = f"{evaluation}: {shown}" if evaluation else rest or name
    unit = dict.fromkeys(_unit(runs[i], name) for i in lines)
    return Chart(
        section,
        name,
        title,
        ", or ".join(unit),
        lines,
        dict(_levels(evaluation, metric, runs)),
    )


def _unit(run: Run, name: str) -> str:
    evaluation, metric = split_evaluation(name)
    group, _, rest = name.partition("/")
    if metric.startswith("terms/"):
        return units.of_term(run, metric.removeprefix("terms/"))
    if metric.startswith("metrics/"):
        return units.of_metric(run, evaluation, metric.removeprefix("metrics/"))
    if name == "learning/total":
        return units.of_total(run)
    if metric == "loss" and evaluation:
        return units.of_loss(run.unit)
    if evaluation:
        unit = _UNITS.get(metric, curves.EVALUATED.get(metric, f"per {run.unit}"))
    elif group == "learning" and rest in run.terms:
        return units.of_term(run, rest)
    else:
        standard = name.replace(f"{run.unit}s_per", "tokens_per")
        unit = curves.OTHERS.get(standard, ("", ""))[1]
    return unit.replace("token", run.unit)


def _levels(
    evaluation: str, metric: str, runs: Sequence[Run]
) -> Iterator[tuple[str, float]]:
    """Yield the teacher's line: one where all runs agree, else one for each value."""
    name = f"{evaluation}/{_TEACHER}{metric}"
    values = [run.metrics[name].values[-1] for run in runs if name in run.metrics]
    distinct = list(dict.fromkeys(f"{v:.4g}" for v in values if math.isfinite(v)))
    for number, value in enumerate(distinct, start=1):
        yield (f"teacher {number}" if distinct[1:] else "teacher"), float(value)


def clock(run: Run) -> Series | None:
    """Return device-seconds by step; None of a run that logged no speed.

    `Σ steps / (steps a second) · devices`, without compilation and evaluation. The
    devices are those of the last start.
    """
    speed = run.metrics.get("speed/steps_per_second")
    if speed is None:
        return None
    devices = run.versions.get("devices")
    count = devices.get("count") if isinstance(devices, Mapping) else None
    count = count if isinstance(count, int) and count > 0 else 1
    steps, total, totals = [0, *speed.steps], 0.0, [0.0]
    for (before, step), rate in zip(
        itertools.pairwise(steps), speed.values, strict=True
    ):
        total += count * (step - before) / rate if rate > 0 else 0.0
        totals.append(total)
    return Series(steps, totals) if len(set(steps)) == len(steps) > 1 else None
