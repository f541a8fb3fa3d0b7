"""The job that measures models which are there already, side by side."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from runner import runtime
from runner.data.dataset import Dataset
from runner.errors import UserError
from runner.evaluation.evaluation import Evaluation
from runner.graph.job import Job
from runner.machine import compiled_programs, out_of_memory
from runner.machine import mesh as mesh_lib
from runner.measuring.row import Measured
from runner.teachers.base import LoadedTeacher, Teacher, TeacherContext
from runner.teachers.ema import EMATeacher, StartTeacher
from runner.weights import location
from runner.workdir.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(Job):
    """Models measured on the same data; nothing is trained.

    Each is `PATH`, or of a work directory `PATH@STEP` or `PATH@best`: a run of ours, a
    Hugging Face folder or a `.gguf` file. All speak the tokens of the data.

    Attributes:
      models: By the name of a row. One is on the devices at a time.
      evaluations: The data, and metrics of one's own.
      teacher: What all are compared with: `kl`, `agreement` and a row of its own.
      start: The name of the model from which the gap to the teacher is counted; "" for
        none.

    Raises:
      ValueError: There is no model, no evaluation or no such start, a name is taken
        twice, or the teacher follows a student.
    """

    models: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    teacher: Teacher | None = None
    start: str = ""

    def __post_init__(self):
        if not self.models:
            raise ValueError("models must name at least one")
        if not self.evaluations:
            raise ValueError("evaluations must hold at least one")
        names = [evaluation.name for evaluation in self.evaluations]
        if len(set(names)) < len(names):
            raise ValueError(f"evaluations must have names of their own, got {names}")
        if self.start and self.start not in self.models:
            raise ValueError(
                f"start must be one of the models {list(self.models)}, "
                f"got {self.start!r}"
            )
        if self.start and self.teacher is None:
            raise ValueError("start is where the gap to a teacher begins; give teacher")
        if self.teacher is not None and "teacher" in self.models:
            raise ValueError("a model may not be named 'teacher' beside one")
        if isinstance(self.teacher, EMATeacher | StartTeacher):
            raise ValueError("teacher follows a student in training, and here is none")

    def check(self) -> None:
        """Refuse models that are not there; no array is read.

        Raises:
          UserError: Naming the model.
        """
        for name, where in self.models.items():
            with _naming(name):
                location.check(location.parse(where))

    def run(self, workdir: Workdir) -> None:
        """Measure every model, print the table, write `result.json` and the page."""
        from runner.measuring import measured

        with out_of_memory.explained():
            config = runtime.current()
            compiled_programs.keep(config.compilation)
            workdir.record_start()
            rows, models = self.measure(config)
        page = measured.write(workdir.path, rows, models)
        print(f"{measured.text(rows)}\n\n  page: {page}")

    def measure(
        self, config: runtime.Runtime
    ) -> tuple[list[Measured], dict[str, dict[str, Any]]]:
        """Return metrics, and what each model is.

        Raises:
          UserError: A model or the teacher does not fit the data.
        """
        from runner.evaluation.evaluator import Evaluator
        from runner.measuring import model_state

        mesh = mesh_lib.make(config.mesh)
        for one in self.evaluations:
            name = f"evaluations.{one.name}.batch_size"
            mesh_lib.check_batch(name, one.batch_size, mesh)
        datasets = [one.data.load(cache=config.input.cache) for one in self.evaluations]
        for one, dataset in zip(self.evaluations, datasets, strict=True):
            dataset.require_fixed(f"evaluations.{one.name}.data")
        teacher = self._teacher(datasets, mesh, config)
        rows: list[Measured] = []
        models: dict[str, dict[str, Any]] = {}
        for name, text in self.models.items():
            where = location.parse(text)
            with _naming(name):
                model = model_state.load(
                    where, datasets, teacher=teacher, config=config
                )
            for one in self.evaluations:
                evaluator = Evaluator(one, model.step, config=config)
                # Its terms are the loss and the KL under other names.
                metrics = {
                    metric: value
                    for metric, value in evaluator(model.state).items()
                    if "terms/" not in metric
                }
                rows.append(Measured(name, one.name, metrics))
            models[name] = {"path": str(where), "digest": model.weights.digest}
        return self._with_gaps(rows), models

    def _teacher(
        self, datasets: Sequence[Dataset], mesh: Any, config: runtime.Runtime
    ) -> LoadedTeacher | None:
        if self.teacher is None:
            return None
        return self.teacher.load(
            TeacherContext(
                vocabulary=datasets[0].vocabulary,
                mesh=mesh,
                rules=config.mesh.rules,
                cache=config.input.cache,
                positions=max(dataset.targets_per_row for dataset in datasets),
            )
        )

    def _with_gaps(self, rows: Sequence[Measured]) -> list[Measured]:
        """Add to each row the share of the gap between start and teacher."""
        from runner.evaluation.evaluator import gap_closed

        begun = {
            row.evaluation: row.metrics["loss"]
            for row in rows
            if self.start and row.model == self.start
        }
        table = []
        for row in rows:
            teacher = row.metrics.get("teacher/loss")
            if row.evaluation in begun and teacher is not None:
                closed = gap_closed(
                    row.metrics["loss"], start=begun[row.evaluation], teacher=teacher
                )
                extra = {} if closed is None else {"gap_closed": closed}
                row = dataclasses.replace(row, metrics={**row.metrics, **extra})
            table.append(row)
        return table


class _naming:
    """A block whose errors name the model."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object):
        if isinstance(error, UserError):
            raise UserError(f"models.{self._name}: {error}") from error
