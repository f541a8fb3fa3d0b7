"""The end of a run: final metrics beside baselines, and the report."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from runner import atomic_files, report, writers
from runner.evaluation import evaluator
from runner.state.train_state import TrainState
from runner.train.actions.context import Results
from runner.train.setup import Setup
from runner.workdir.workdir import Workdir
from runner.writers.terminal import Terminal


def finish(
    setup: Setup,
    workdir: Workdir,
    state: TrainState,
    results: Results,
    terminal: Terminal,
    failures: writers.Failures,
) -> None:
    """Write `result.json` and `report.html`; print the table, unless quiet.

    A run that is read again after its end keeps the numbers it has. What cannot be
    written is noted in `failures`.
    """
    path = workdir.path / "result.json"
    if results.evaluations or not path.exists():
        content = summarize(setup, workdir, state, results)
        with failures.caught(path.name):
            if workdir.writes:
                atomic_files.write_atomic(path, json.dumps(content, indent=1) + "\n")
    if jax.process_index() == 0:
        with failures.caught("report.html"):
            report.write(workdir.path)
        with failures.caught("the table"):
            if not setup.config.loop.quiet:
                terminal.print("\n" + report.table(workdir.path))


def summarize(
    setup: Setup, workdir: Workdir, state: TrainState, results: Results
) -> dict[str, Any]:
    """Return final metrics by evaluation, baselines on the same data, samples."""
    evaluations = results.evaluations or {
        name: setup.evaluate(name, state, whole=True) for name in setup.evaluators
    }
    for name, metrics in evaluations.items():
        metrics.update(_gap(metrics, untrained(workdir, name)))
    # Baselines are of the first evaluation's data.
    baselines = [
        row
        for name, one in list(setup.evaluators.items())[:1]
        for row in [
            *untrained(workdir, name),
            *of_teacher(evaluations.get(name, {})),
            *map(dataclasses.asdict, setup.dataset.baselines(one.dataset)),
        ]
    ]
    samples = results.samples or setup.sample(state)
    return {
        "step": int(state.step),
        "evaluations": evaluations,
        "best": of_best(setup, results),
        "baselines": baselines,
        "samples": [dataclasses.asdict(sample) for sample in samples],
    }


def untrained(workdir: Workdir, evaluation: str) -> list[dict[str, Any]]:
    """Return the baseline of the student before its first step, if it was measured."""
    if not workdir.metrics.exists():  # it could not be written
        return []
    first = next(iter(writers.read(workdir.metrics)), {})
    if first.get("step") != 0 or f"{evaluation}/loss" not in first:
        return []
    prefix = f"{evaluation}/"
    return [
        _baseline("untrained", {n.removeprefix(prefix): x for n, x in first.items()})
    ]


def _gap(
    metrics: Mapping[str, float], before: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Return the share of the gap to the teacher that is closed, by its name."""
    if "gap_closed" in metrics or "teacher/loss" not in metrics or not before:
        return {}
    start, teacher = before[0]["nats_per_token"], metrics["teacher/loss"]
    closed = evaluator.gap_closed(metrics["loss"], start=start, teacher=teacher)
    return {} if closed is None else {"gap_closed": closed}


def of_teacher(metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the baseline of the teacher on the same data, if it was measured."""
    if "teacher/loss" not in metrics:
        return []
    prefix = "teacher/"
    own = {n.removeprefix(prefix): x for n, x in metrics.items() if prefix in n}
    return [_baseline("teacher", own)]


def of_best(setup: Setup, results: Results) -> dict[str, Any] | None:
    """Return step and metrics of the best checkpoint; None where none is kept."""
    best, rule = results.best, setup.keep_best
    if rule is None or best is None or best.step is None:
        return None
    return {
        "evaluation": rule.evaluation,
        "step": best.step,
        "metrics": dict(best.metrics),
    }


def _baseline(name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "nats_per_token": metrics["loss"],
        "bits_per_byte": metrics.get("bits_per_byte"),
        "accuracy": metrics.get("accuracy"),
    }
