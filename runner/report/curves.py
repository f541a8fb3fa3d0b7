"""The curves of a report, in order, with their units."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner import atomic_files
from runner.report import heat_map, plot, theme, units
from runner.report.run import Run, Series
from runner.writers.console import split_evaluation

OTHERS = {
    "learning/total": ("weighted sum of the terms", "per token"),
    "optimizer/learning_rate": ("learning rate", "per step"),
    "optimizer/gradient_norm": ("gradient norm", "L2"),
    "optimizer/update_ratio": ("update ratio", "norm of update / norm of parameters"),
    "optimizer/parameter_norm": ("parameter norm", "L2"),
    "speed/tokens_per_second": ("speed", "tokens per second"),
    "speed/waiting_for_data": ("waiting for data", "share of the time"),
    "speed/mfu": ("model FLOPs utilisation", "share of the device's peak"),
    "diagnostics/kl": ("KL to the teacher", "nats per token, at temperature 1"),
    "diagnostics/agreement": ("agreement", "share of tokens with the teacher's best"),
    "diagnostics/mass_on_best": ("mass on the teacher's best", "probability"),
    "diagnostics/student_entropy": ("student's entropy", "nats per token"),
    "diagnostics/teacher_entropy": ("teacher's entropy", "nats per token"),
    "diagnostics/calibration_error": ("calibration error", "of one batch"),
    "diagnostics/router_entropy": ("router entropy", "nats per token"),
    "moe/load_entropy": ("expert load entropy", "1 = all experts equally busy"),
    "moe/unused_experts": ("unused experts", "experts without a token, all layers"),
}
SECTIONS = {
    "learning": "loss terms",
    "weights": "loss terms",
    "diagnostics": "diagnosis",
    "optimizer": "optimisation",
    "speed": "machine and mixture",
    "moe": "machine and mixture",
}
SCHEDULED = ("weights/", "optimizer/learning_rate", "optimizer/update_ratio")
EVALUATED = {
    "accuracy": "share of tokens",
    "calibration_error": "mean |confidence - accuracy|",
    "kl": "nats per token, from the teacher",
    "agreement": "share of tokens with the teacher's best",
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A drawn curve. `light` and `dark` are file names in the picture directory."""

    section: str
    title: str
    unit: str
    light: str
    dark: str


@dataclasses.dataclass(frozen=True)
class _Curve:
    section: str
    name: str
    title: str
    unit: str


def draw(run: Run, *, directory: Path) -> list[Picture]:
    """Draw every curve that has two points, in the order of the page."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = []
    for curve in _curves(run):
        series = run.metrics.get(curve.name)
        if series is None or len(series.steps) < 2:
            continue
        pictures.append(_saved(curve, _drawn(run, curve, series), directory))
    for part in ("trunk", "head"):
        square = heat_map.square(run.latest, part, run.terms)
        if square is not None:
            curve = _Curve(
                SECTIONS["diagnostics"],
                f"diagnostics/{part}_cosine",
                f"gradients of the terms in the {part}",
                "cosines, last diagnosis",
            )
            pictures.append(_saved(curve, heat_map.svg(*square), directory))
    return sorted(pictures, key=lambda picture: _order(pictures, picture.section))


def _order(pictures: Sequence[Picture], section: str) -> int:
    """Return the index of a section's first picture, so that all stand together."""
    return [picture.section for picture in pictures].index(section)


def _saved(curve: "_Curve", svg: str, directory: Path) -> Picture:
    stem = re.sub(r"[^\w.-]+", "_", curve.name)[:80]  # of four bytes each at most
    files = f"{stem}.svg", f"{stem}-dark.svg"
    for file, text in zip(files, (svg, theme.dark(svg)), strict=True):
        atomic_files.write_atomic(directory / file, text)
    return Picture(curve.section, curve.title, curve.unit, *files)


def _curves(run: Run) -> Iterator[_Curve]:
    for term in run.terms:
        unit = units.of_term(run, term)
        yield _Curve(SECTIONS["learning"], f"learning/{term}", term, unit)
    # A weight that never changes is in the summary already.
    for term in run.terms:
        name = f"weights/{term}"
        if name in run.metrics and len(set(run.metrics[name].values)) > 1:
            yield _Curve(SECTIONS["weights"], name, f"weight of {term}", "factor")
    for name, (title, unit) in OTHERS.items():
        name, unit = (text.replace("token", run.unit) for text in (name, unit))
        if name == "learning/total":
            unit = units.of_total(run)
        yield _Curve(SECTIONS[name.partition("/")[0]], name, title, unit)
    for evaluation in run.measured:
        for metric, unit in EVALUATED.items():
            title = f"{evaluation} {metric.replace('_', ' ')}"
            unit = unit.replace("token", run.unit)
            yield _Curve("evaluation", f"{evaluation}/{metric}", title, unit)


def _drawn(run: Run, curve: _Curve, series: Series) -> str:
    """Draw a curve; cross-entropy among evaluations and baselines of its unit.

    The teacher's own value, on held-out data, is a level wherever it was measured.
    """
    if curve.section == "evaluation":
        levels = _of_teacher(run, *split_evaluation(curve.name))
        return plot.svg(None, unit=curve.unit, points={"": series}, levels=levels)
    if not _is_cross_entropy(run, curve.name):
        scale = "linear" if curve.name.startswith(SCHEDULED) else "fitting"
        group, _, term = curve.name.partition("/")
        first = next(iter(run.measured), "")
        levels = _of_teacher(run, first, f"terms/{term}") if group == "learning" else {}
        return plot.svg(series, unit=curve.unit, points={}, levels=levels, scale=scale)
    points = {
        name: run.metrics[f"{name}/loss"]
        for name in run.measured
        if f"{name}/loss" in run.metrics
    }
    levels = {
        baseline.name: baseline.nats_per_token
        for baseline in run.baselines
        if baseline.nats_per_token is not None
    }
    return plot.svg(series, unit=curve.unit, points=points, levels=levels)


def _of_teacher(run: Run, evaluation: str, metric: str) -> dict[str, float]:
    """Return the teacher's last value of a metric, as a level; empty without one."""
    series = run.metrics.get(f"{evaluation}/teacher/{metric}")
    value = series.values[-1] if series else math.nan
    return {"teacher": value} if math.isfinite(value) else {}


def _is_cross_entropy(run: Run, name: str) -> bool:
    group, _, term = name.partition("/")
    if group != "learning":
        return False
    return _class(run, term) == "CrossEntropy" or (not run.config and term == "ce")


def _class(run: Run, term: str) -> str:
    """Return the class of a term's loss; empty where no config tells."""
    return run.of_term(term, "loss").rpartition(".")[2]
