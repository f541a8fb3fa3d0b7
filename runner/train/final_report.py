"""The end of a run: final numbers beside baselines, a report, what to do next."""

import dataclasses
import json
from typing import Any

import jax

from runner import atomic_files, report, writers
from runner.state.train_state import TrainState
from runner.train.hooks import Hooks
from runner.train.sampling import Sampler
from runner.train.trainer import Trainer
from runner.workdir.workdir import Workdir
from runner.writers.terminal import Terminal


def finish(
    trainer: Trainer,
    workdir: Workdir,
    state: TrainState,
    hooks: Hooks,
    terminal: Terminal,
) -> None:
    """Write `result.json` and `report.html`; print the table, unless quiet.

    A run that is read again after its end keeps the numbers it has.
    """
    path = workdir.path / "result.json"
    if hooks.evaluate.results or not path.exists():
        found = result(trainer, workdir, state, hooks)
        if workdir.writes:
            atomic_files.write_atomic(path, json.dumps(found, indent=1) + "\n")
    if jax.process_index() == 0:
        report.write(workdir.path)
        if not trainer.config.loop.quiet:
            terminal.print("\n" + report.table(workdir.path))


def result(
    trainer: Trainer, workdir: Workdir, state: TrainState, hooks: Hooks
) -> dict[str, Any]:
    """Final metrics by evaluation, baselines on the same data, samples."""
    evaluations = hooks.evaluate.results or {
        name: trainer.evaluate(name, state) for name in trainer.evaluators
    }
    baselines = [
        row
        for name, evaluator in list(trainer.evaluators.items())[:1]
        for row in [
            *untrained(workdir, name),
            *map(dataclasses.asdict, trainer.dataset.baselines(evaluator.dataset)),
        ]
    ]
    samples = hooks.samples.latest or Sampler(trainer)(state)
    return {
        "evaluations": evaluations,
        "baselines": baselines,
        "samples": [dataclasses.asdict(sample) for sample in samples],
    }


def untrained(workdir: Workdir, evaluation: str) -> list[dict[str, Any]]:
    """The student before its first step, if the run has measured it."""
    first = next(iter(writers.read(workdir.metrics)), {})
    if first.get("step") != 0 or f"{evaluation}/loss" not in first:
        return []
    return [
        {
            "name": "untrained",
            "nats_per_token": first[f"{evaluation}/loss"],
            "bits_per_byte": first.get(f"{evaluation}/bits_per_byte"),
            "accuracy": first.get(f"{evaluation}/accuracy"),
        }
    ]
