"""A run as its work directory tells it; every part may be missing."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runner.checkpoint.presence import nearest_run
from runner.errors import UserError
from runner.files import form, remote
from runner.writers.console import NOTICES, split_evaluation
from runner.writers.json_lines import read

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Series:
    """A metric over steps; values that were not finite are NaN."""

    steps: Sequence[int]
    values: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Metrics of a simple method on the same data; None where it has none."""

    name: str
    nats_per_token: float | None = None
    bits_per_byte: float | None = None
    accuracy: float | None = None


@dataclasses.dataclass(frozen=True)
class Sample:
    """A prompt and its continuation."""

    prompt: str
    text: str


@dataclasses.dataclass(frozen=True)
class Best:
    """The checkpoint that was kept for being the best.

    Attributes:
      evaluation: The name of the evaluation that chose it.
      step: After which it was saved.
      metrics: Of that evaluation.
    """

    evaluation: str
    step: int
    metrics: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class Result:
    """Content of `result.json`.

    Attributes:
      evaluations: The final metrics, by name of the evaluation.
      baselines: Simple methods on the data of the first evaluation.
      samples: Texts of the student.
      step: The step at which the run came to its end; None in older files.
      best: The best checkpoint, if one is kept.
    """

    evaluations: Mapping[str, Mapping[str, float | None]] = dataclasses.field(
        default_factory=dict
    )
    baselines: Sequence[Baseline] = ()
    samples: Sequence[Sample] = ()
    step: int | None = None
    best: Best | None = None


@dataclasses.dataclass(frozen=True)
class Costs:
    """Content of `costs.json`: what a step takes in; None where it is not known.

    Attributes:
      targets_per_step: Tokens (or images) of a global batch.
      flops_per_step: Matmul FLOPs of a step, on all devices.
    """

    targets_per_step: float | None = None
    flops_per_step: float | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything the report shows.

    Attributes:
      workdir: The work directory.
      metrics: By name, training and evaluations.
      evaluations: The latest metrics of all rows, by name of the evaluation.
      baselines: Simple methods on the data of the first evaluation.
      samples: Texts of the student.
      notices: What was said of the terms while they were trained, with the step.
      config: Value (as text) by path, in the order of the file.
      config_text: The file, `config.txt`.
      parameters: The table of parameters.
      versions: The software and the devices.
      data: The fingerprints of all data.
      runtime: The gin settings that were used.
      command: Every command of the work directory.
      best: The best checkpoint, if one is kept and the run has come to its end.
      end: The step at which it came to its end; None of one that has not.
      costs: Of a step.
    """

    workdir: Path
    metrics: Mapping[str, Series]
    evaluations: Mapping[str, Mapping[str, float | None]]
    baselines: Sequence[Baseline]
    samples: Sequence[Sample]
    notices: Sequence[str]
    config: Mapping[str, str]
    config_text: str
    parameters: str
    versions: Mapping[str, Any]
    data: Mapping[str, Mapping[str, Any]]
    runtime: str
    command: str
    best: Best | None = None
    end: int | None = None
    costs: Costs = Costs()

    @property
    def results(self) -> dict[str, Mapping[str, float | None]]:
        """Return `evaluations`, that of the best checkpoint in place of the last."""
        chosen = {self.best.evaluation: self.best.metrics} if self.best else {}
        return {**self.evaluations, **chosen}

    @property
    def measured(self) -> list[str]:
        """Return the names of the evaluations, those of some rows alone included."""
        names = [split_evaluation(name)[0] for name in self.metrics]
        return list(dict.fromkeys([*self.evaluations, *filter(None, names)]))

    def untrained(self, evaluation: str) -> dict[str, float]:
        """Return the metrics of an evaluation before the first step."""
        metrics = {}
        for name, series in self.metrics.items():
            group, metric = split_evaluation(name)
            if group == evaluation and series.steps[0] == 0:
                metrics[metric] = series.values[0]
        return metrics

    @property
    def last_step(self) -> int:
        """Return the last step that left a metric."""
        return max((s.steps[-1] for s in self.metrics.values()), default=0)

    @property
    def num_steps(self) -> int | None:
        """Return the steps of the whole experiment, if the config has them."""
        number = self.config.get("num_steps", "")
        return int(number) if re.fullmatch(r"[0-9]{1,18}", number) else None

    @property
    def unit(self) -> str:
        """Return the name of a target: `"token"`, `"image"`."""
        unit = self.data.get("train_data", {}).get("unit")
        unit = unit if isinstance(unit, str) else ""
        return unit if re.fullmatch(r"\w{1,20}", unit) else "token"

    @property
    def title(self) -> str:
        """Return the name of the config file; without one, of the work directory."""
        match = re.search(r"--fdl_config[= ]['\"]?([^\s'\"]+)", self.command)
        return Path(match[1]).stem if match else self.workdir.name

    @property
    def seconds(self) -> float | None:
        """Return the seconds of training proper; None if no speed was logged.

        `Σ steps / (steps a second)`, without compilation and evaluation.
        """
        speed = self.metrics.get("speed/steps_per_second")
        if speed is None:
            return None
        steps = itertools.pairwise([0, *speed.steps])
        return sum(
            (b - a) / v for (a, b), v in zip(steps, speed.values, strict=True) if v > 0
        )

    @property
    def latest(self) -> dict[str, float]:
        """Return the last value of every metric."""
        return {name: series.values[-1] for name, series in self.metrics.items()}

    @property
    def waiting(self) -> float | None:
        """Return the mean share of the time spent waiting for data, if logged."""
        shares = self.metrics.get("speed/waiting_for_data")
        return sum(shares.values) / len(shares.values) if shares else None

    @property
    def terms(self) -> list[str]:
        """Return the names of terms and groups in the order of the experiment."""
        if listed := list(self._listed("losses")):
            return [path.rpartition(".")[2] for path in listed]
        names = [name.partition("/") for name in self.metrics]
        return [n for group, _, n in names if group == "learning" and n != "total"]

    def of_term(self, term: str, field: str) -> str:
        """Return a field of a term or group in the config; empty if it has none."""
        paths = [p for p in self._listed("losses") if p.endswith(f".{term}")]
        return self.config.get(f"{paths[0]}.{field}", "") if paths else ""

    def _listed(self, path: str) -> Iterator[str]:
        """Yield the paths of the terms in a list, and of those in their groups."""
        match = re.fullmatch(r"[\[(](.*)[\])]", self.config.get(path, ""))
        for name in match[1].split(", ") if match else ():
            if name:
                yield f"{path}.{name}"
                yield from self._listed(f"{path}.{name}.terms")


def load(workdir: str | Path) -> Run:
    """Read a work directory.

    Raises:
      UserError: It holds neither metrics nor a config, or a file of it is malformed.
    """
    remote.refuse("workdir", str(workdir))
    workdir = Path(workdir).absolute()
    metrics_path = workdir / "metrics.jsonl"
    config_text = _text(workdir / "config.txt")
    if not metrics_path.exists() and not config_text:
        if not workdir.exists():
            near = nearest_run(workdir, "config.txt", "sweep.json")
            raise UserError(f"no such directory: {workdir}{near}")
        raise UserError(f"no run in {workdir}: no metrics.jsonl and no config.txt")

    # A run that was stopped has no `result.json`: then the last values logged stand in.
    rows = read(metrics_path) if metrics_path.exists() else []
    metrics = _series(rows)
    result = _json(Result, workdir / "result.json") or Result()
    return Run(
        workdir=workdir,
        metrics=metrics,
        evaluations=result.evaluations or _evaluations(metrics),
        baselines=result.baselines,
        samples=result.samples or [Sample("", text) for text in _last_texts(rows)],
        notices=_notices(rows),
        config=dict(
            line.split(": ", 1) for line in config_text.splitlines() if ": " in line
        ),
        config_text=config_text,
        parameters=_text(workdir / "parameters.txt"),
        versions=_json(dict[str, Any], workdir / "versions.json") or {},
        data=_json(dict[str, dict[str, Any]], workdir / "data.json") or {},
        runtime=_text(workdir / "operative.gin"),
        command=_text(workdir / "command.txt"),
        best=result.best,
        end=result.step,
        costs=_json(Costs, workdir / "costs.json") or Costs(),
    )


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    points: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and not isinstance(value, str):
                steps, values = points.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(float("nan") if value is None else float(value))
    return {name: Series(steps, values) for name, (steps, values) in points.items()}


def _evaluations(metrics: Mapping[str, Series]) -> dict[str, dict[str, float]]:
    """Return the latest of each evaluation of all rows, for a run that was stopped."""
    evaluations: dict[str, dict[str, float]] = {}
    for name, series in metrics.items():
        group, metric = split_evaluation(name)
        if group:
            evaluations.setdefault(group, {})[metric] = series.values[-1]
    return {n: x for n, x in evaluations.items() if x.get("share", 1.0) == 1.0}


def _last_texts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    for row in reversed(rows):
        texts = [
            value
            for name, value in row.items()
            if isinstance(value, str) and not name.startswith(NOTICES)
        ]
        if texts:
            return texts
    return []


def _notices(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"step {row['step']}: {value}"
        for row in rows
        for name, value in row.items()
        if name.startswith(NOTICES)
    ]


def _text(path: Path) -> str:
    with form.of_file(path):
        return form.read_text(path)
    return ""  # there is none


def _json(kind: type[T], path: Path) -> T | None:
    with form.of_file(path):
        return form.read(kind, path)
    return None
