"""What of a teacher is worth keeping: held-out loss by what the student is told.

    make results

Trains a teacher on the embedded corpus (`configs/dense.py`), records it in each way,
and trains one small student a variant and seed, all else equal. What is done is kept in
`runs/results/` and not done again, so that it may be stopped and started; it ends with
the table of `docs/results.md`.
"""

import argparse
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import fiddle as fdl
import gin
import jax
import optax

import losses
from losses import LossTerm
from runner import optimizers
from runner.data import Part
from runner.experiment import Experiment
from runner.graph import build, overrides, read
from runner.graph.overrides import Set
from runner.recording.job import RecordTeacher
from runner.recording.modes import Mode, Sampled, TopK
from runner.teachers import OfflineTeacher, OnlineTeacher
from runner.workdir import opening

ROOT = Path(__file__).parents[2]
STEPS, BATCH, SEEDS = 240, 8, (0, 1, 2)
TEACHER_STEPS = 900
OTHERS: tuple[losses.SparseMode, ...] = (
    "renormalize_teacher",
    "renormalize_both",
    "truncate",
    "residual_to_target",
)
CE_WEIGHT = 0.5


@dataclasses.dataclass(frozen=True)
class Variant:
    """What the student is told beside, or in place of, the labels.

    mode:  of the records; None for the live teacher (or for no teacher).
    with_ce: whether the cross-entropy has `CE_WEIGHT`, and the divergence the rest.
    """

    name: str
    kd: losses.ForwardKL | None = None
    mode: Mode | None = None
    with_ce: bool = False

    @property
    def key(self) -> str:
        """Unique."""
        return f"{self.name}{' + CE' if self.with_ce else ''}"

    def terms(self) -> list[LossTerm]:
        """The losses, the weights adding up to 1."""
        ce = LossTerm(name="ce", loss=losses.CrossEntropy(), weight=CE_WEIGHT)
        if self.kd is None:
            return [dataclasses.replace(ce, weight=1.0)]
        weight = 1.0 - CE_WEIGHT if self.with_ce else 1.0
        kd = LossTerm(name="kd", loss=self.kd, weight=weight)
        return [ce, kd] if self.with_ce else [kd]


def unbiased() -> Iterator[Variant]:
    """No teacher, the whole of it, and draws."""
    yield Variant("labels alone")
    for with_ce in (False, True):
        yield Variant("full", losses.ForwardKL(), with_ce=with_ce)
        for n in (12, 50):
            drawn = losses.ForwardKL(sparse="sampled")
            yield Variant(f"sampled {n}", drawn, Sampled(n=n), with_ce)


def best_entries(*conventions: losses.SparseMode) -> Iterator[Variant]:
    """The best entries, by what stands for the rest."""
    for convention in conventions:
        for with_ce in (False, True):
            for k in (3, 12, 50):
                kept = losses.ForwardKL(sparse=convention)
                yield Variant(f"top-{k} {convention}", kept, TopK(k=k), with_ce)


def runs() -> Iterator[tuple[Variant, int]]:
    """Every variant and seed, the most telling first."""
    first = [*unbiased(), *best_entries("tail_bucket")]
    for group in (first, list(best_entries(*OTHERS))):
        for seed in SEEDS:
            yield from ((variant, seed) for variant in group)


class Results:
    """The work directory of all of it."""

    def __init__(self, path: Path):
        self.path = path
        self._file = path / "results.jsonl"
        path.mkdir(parents=True, exist_ok=True)
        gin.clear_config()
        gin.bind_parameter("compilation.cache", str(path / "compiled"))

    def done(self) -> dict[tuple[str, int], dict]:
        """By variant and seed, what was measured."""
        if not self._file.exists():
            return {}
        rows = [json.loads(line) for line in self._file.read_text().splitlines()]
        return {(row["variant"], row["seed"]): row for row in rows}

    def run(self) -> None:
        """Everything that is not done."""
        teacher = self._teacher()
        for variant, seed in runs():
            if (variant.key, seed) in self.done():
                continue
            begin = time.monotonic()
            metrics = train(self._experiment(variant, teacher, seed))
            row = {
                "variant": variant.key,
                "seed": seed,
                "loss": metrics["loss"],
                "calibration_error": metrics["calibration_error"],
                "seconds": round(time.monotonic() - begin, 1),
            }
            with self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            jax.clear_caches()

    def _teacher(self) -> str:
        path = self.path / "teacher"
        if not (path / "result.json").exists():
            cfg, _ = read.read(f"{ROOT / 'configs' / 'dense.py'}")
            cfg.num_steps = TEACHER_STEPS
            cfg.optimizer.learning_rate.decay_steps = TEACHER_STEPS
            with opening.open_workdir(path, cfg, ["make results"]) as opened:
                build.job(cfg).run(opened)
        return str(path)

    def _records(self, mode: Mode, teacher: str) -> str:
        path = self.path / "-".join(map(str, [mode.name, *vars(mode).values()]))
        if not (path / "records" / "manifest.json").exists():
            cfg = fdl.Config(
                RecordTeacher,
                teacher=fdl.Config(OnlineTeacher, checkpoint=teacher),
                data=read.read(f"{ROOT / 'configs' / 'dense.py'}")[0].train_data,
                mode=fdl.Config(type(mode), **vars(mode)),
            )
            cfg.data = fdl.Config(Part, data=cfg.data, num_rows=STEPS * BATCH)
            with opening.open_workdir(path, cfg, ["make results"]) as opened:
                build.job(cfg).run(opened)
        return str(path)

    def _experiment(self, variant: Variant, teacher: str, seed: int) -> Experiment:
        cfg = overrides.apply(
            read.read(f"{ROOT / 'configs' / 'dense.py'}")[0],
            [
                Set("student.dim", "96"),
                Set("student.num_layers", "2"),
                Set("batch_size", str(BATCH)),
                Set("num_steps", str(STEPS)),
                Set("seed", str(seed)),
            ],
        )
        cfg.train_data = fdl.Config(Part, data=cfg.train_data, num_rows=STEPS * BATCH)
        schedule = optax.warmup_cosine_decay_schedule(0.0, 5e-3, 24, STEPS)
        source = None
        if variant.mode is not None:
            source = OfflineTeacher(records=self._records(variant.mode, teacher))
        elif variant.kd is not None:
            source = OnlineTeacher(checkpoint=teacher)
        return dataclasses.replace(
            fdl.build(cfg),
            losses=variant.terms(),
            optimizer=optimizers.adamw(schedule),
            teacher=source,
        )


def train(experiment: Experiment) -> dict[str, float]:
    """Held-out metrics of the student after its last step."""
    ready = experiment.prepare()
    leaves = jax.tree.leaves(ready.initial_state())
    with ready.batches(start=0) as batches:
        for _ in range(experiment.num_steps):
            leaves, _ = ready.step(leaves, next(batches))
    state = ready.step.unflatten(leaves)
    return ready.evaluate("held_out", state)


def table(done: dict[tuple[str, int], dict]) -> str:
    """Markdown: mean and spread over seeds, alone and with the labels, side by side."""
    lines = [
        "| the student is told | alone | calibration | 0.5 with 0.5 labels | calib. |",
        "|---|---|---|---|---|",
    ]
    names = dict.fromkeys(variant.name for variant, _ in runs())
    for name in names:
        cells = []
        for key in (name, f"{name} + CE"):
            rows = [row for (variant, _), row in done.items() if variant == key]
            cells += [
                _spread([row["loss"] for row in rows], 3),
                _spread([100 * row["calibration_error"] for row in rows], 1),
            ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float], digits: int) -> str:
    """`4.812 ± 0.010`: mean and standard deviation (of the sample)."""
    if not values:
        return ""
    mean = statistics.mean(values)
    if len(values) < 2 or not math.isfinite(mean):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def main() -> None:
    """Run what is missing; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "results")
    results = Results(parser.parse_args().workdir)
    results.run()
    print(table(results.done()))


if __name__ == "__main__":
    main()
