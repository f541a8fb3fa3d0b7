"""Off-policy and on-policy distillation: equal updates, and equal processor time.

    make results-on-policy

A teacher and a student learn the embedded corpus from labels; the student is then
taught by `GKD`'s divergence (the generalised JSD at 0.5) on rows of the data, on rows
of which half are its own, or on its own alone. What is done is kept in
`runs/on_policy/` and not done again; it ends with the table of `docs/results.md`.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiddle as fdl
import gin
import jax
import optax

import losses
import runner
from losses import LossTerm
from runner import data, optimizers
from runner.evaluation.evaluation import Evaluation
from runner.evidence import intervals
from runner.experiment import Experiment
from runner.graph import build, overrides, read
from runner.graph.overrides import Set
from runner.teachers import OnlineTeacher
from runner.workdir import opening

ROOT = Path(__file__).parents[2]
LENGTH, PROMPT, SEEDS = 64, 16, (0, 1, 2)
LABELLED, TAUGHT = 16, 8  # rows a step
TEACHER_STEPS, START_STEPS, STEPS = 600, 200, 100
HELD_OUT_ROWS = 192
SHAPES = {"teacher": (128, 3), "start": (64, 2)}
FRACTIONS = (0.0, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to teach: a share of own rows, for so many updates."""

    fraction: float
    steps: int
    seed: int

    @property
    def key(self) -> str:
        """Unique."""
        return f"{self.fraction}-{self.steps}-{self.seed}"


def model(kind: str, steps: int, seed: int) -> Any:
    """Return the graph of a run on labels; `configs/dense.py`, smaller."""
    dim, layers = SHAPES[kind]
    cfg = overrides.apply(
        read.read(f"{ROOT / 'configs' / 'dense.py'}")[0],
        [
            Set("student.dim", str(dim)),
            Set("student.num_layers", str(layers)),
            Set("train_data.sequence_length", str(LENGTH)),
            Set("evaluations[0].data.sequence_length", str(LENGTH)),
            Set("batch_size", str(LABELLED)),
            Set("num_steps", str(steps)),
            Set("seed", str(seed)),
            Set("optimizer.learning_rate.decay_steps", str(steps)),
        ],
    )
    held_out = cfg.evaluations[0].data
    cfg.evaluations[0].data = fdl.Config(
        data.Part, data=held_out, num_rows=HELD_OUT_ROWS
    )
    return cfg


class Results:
    """The work directory of all of it."""

    def __init__(self, path: Path):
        self.path = path
        self._file = path / "results.jsonl"
        path.mkdir(parents=True, exist_ok=True)
        gin.clear_config()

    def done(self) -> dict[str, dict]:
        """By arm, what was measured."""
        if not self._file.exists():
            return {}
        rows = [json.loads(line) for line in self._file.read_text().splitlines()]
        return {row["key"]: row for row in rows}

    def run(self) -> None:
        """Everything that is not done."""
        for kind, steps in (("teacher", TEACHER_STEPS), ("start", START_STEPS)):
            self._labels(kind, steps)
        for fraction in FRACTIONS:  # at equal updates
            for seed in SEEDS:
                self._teach(Arm(fraction, STEPS, seed))
        for arm in self.longer():
            self._teach(arm)

    def longer(self) -> Iterator[Arm]:
        """The runs that take as long as those on own rows alone."""
        for fraction in FRACTIONS[:-1]:
            ratio = self._cost(1.0) / self._cost(fraction)
            for seed in SEEDS:
                yield Arm(fraction, round(STEPS * ratio), seed)

    def _cost(self, fraction: float) -> float:
        keys = [Arm(fraction, STEPS, seed).key for seed in SEEDS]
        return sorted(self.done()[key]["seconds"] for key in keys)[1]

    def _labels(self, kind: str, steps: int) -> None:
        path = self.path / kind
        if not (path / "result.json").exists():
            cfg = model(kind, steps, seed=7)
            with opening.open_workdir(path, cfg, ["make results-on-policy"]) as opened:
                build.job(cfg).run(opened)

    def _teach(self, arm: Arm) -> None:
        if arm.key in self.done():
            return
        metrics = train(self._experiment(arm))
        row = {"key": arm.key, **dataclasses.asdict(arm), **metrics}
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def _experiment(self, arm: Arm) -> Experiment:
        cfg = model("start", arm.steps, arm.seed)
        held_out = cfg.evaluations[0].data

        def own(rows: Any, fraction: float) -> Any:
            return fdl.Config(
                data.OnPolicy,
                data=rows,
                fraction=fraction,
                max_new_tokens=LENGTH - PROMPT,
                prompt_tokens=PROMPT,
            )

        if arm.fraction > 0:
            cfg.train_data = own(cfg.train_data, arm.fraction)
        cfg.evaluations = [
            *cfg.evaluations,
            fdl.Config(Evaluation, name="own", data=own(held_out, 1.0), batch_size=32),
        ]
        cfg.start = fdl.Config(runner.starts.Run, workdir=str(self.path / "start"))
        schedule = optax.warmup_cosine_decay_schedule(0.0, 2e-3, 10, arm.steps)
        return dataclasses.replace(
            fdl.build(cfg),
            batch_size=TAUGHT,
            losses=[LossTerm(name="jsd", loss=losses.JensenShannon(beta=0.5))],
            optimizer=optimizers.adamw(schedule),
            teacher=OnlineTeacher(checkpoint=str(self.path / "teacher")),
        )


def train(experiment: Experiment) -> dict[str, float]:
    """Metrics after the last step, and the processor seconds of all steps but two."""
    setup = experiment.prepare()
    leaves = jax.tree.leaves(setup.initial_state())
    begin = 0.0
    with setup.batches(start=0) as batches:
        for step in range(experiment.num_steps):
            if step == 2:  # compiled
                jax.block_until_ready(leaves)
                begin = time.process_time()
            batch, _ = setup.with_rollouts(leaves, next(batches))
            leaves, _ = setup.step(leaves, batch)
    jax.block_until_ready(leaves)
    seconds = time.process_time() - begin
    state = setup.step.unflatten(leaves)
    held_out, own = (setup.evaluate(name, state) for name in ("held_out", "own"))
    return {
        "seconds": round(seconds, 2),
        "loss": held_out["loss"],
        "kl": held_out["kl"],
        "own_teacher_nats": own["teacher/loss"],
        "own_nats": own["loss"],
        "own_kl": own["kl"],
        "own_agreement": own["agreement"],
    }


METRICS = {
    "loss": "held-out nats/token",
    "own_teacher_nats": "teacher's nats per token of what the student writes",
    "own_nats": "the student's own",
    "own_agreement": "agreement on it",
}


def table(done: dict[str, dict]) -> str:
    """Markdown: means over seeds and their intervals."""
    lines = [
        f"| own rows | updates | processor s | {' | '.join(METRICS.values())} |",
        f"|---|---|---|{'---|' * len(METRICS)}",
    ]
    arms: dict[tuple[float, int], list[dict]] = {}
    for row in done.values():
        arms.setdefault((row["fraction"], row["steps"]), []).append(row)
    for (fraction, steps), rows in arms.items():
        seconds = sorted(row["seconds"] for row in rows)[len(rows) // 2]
        cells = []
        for name in METRICS:
            spread = intervals.of([row[name] for row in rows])
            cells.append(f"{spread.mean:.3f} ({spread.low:.3f} - {spread.high:.3f})")
        lines.append(
            f"| {fraction:g} | {steps} | {seconds:.0f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "on_policy")
    results = Results(parser.parse_args().workdir)
    results.run()
    print(table(results.done()))


if __name__ == "__main__":
    main()
