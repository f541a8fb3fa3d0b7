"""An evaluation, compiled: metrics of a student, its terms and its teacher."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import losses
from models import sharding
from models.base import Batch
from runner import averages, runtime
from runner.data.labels import Channels
from runner.data.pipeline import evaluation_batches, evaluation_rows
from runner.errors import UserError, prefixed
from runner.evaluation import own_metrics, prediction_metrics
from runner.evaluation.evaluation import Evaluation
from runner.evaluation.held_out import HeldOutTerms
from runner.machine import mesh as mesh_lib
from runner.state.train_state import TrainState
from runner.step import number_terms
from runner.step.compiled_step import CompiledStep
from runner.step.requirements import check_rows
from runner.step.rollouts import CompiledRollouts

Tree = Any


class Evaluator:
    """An evaluation, compiled for a student on a mesh.

    Attributes:
      dataset: The held-out rows.
      batch_size: Rows in a global batch.
      cautions: Lines for the terminal: terms that are not measured, and why.
    """

    def __init__(
        self, evaluation: Evaluation, step: CompiledStep, *, config: runtime.Runtime
    ):
        """Read the data; compile nothing yet.

        Args:
          evaluation: As declared.
          step: The train step, whose terms and teacher are measured.
          config: The runtime settings.
        """
        self._name, self._step = evaluation.name, step
        self._average = evaluation.average
        with prefixed(f"evaluations.{evaluation.name}"):
            self._params(step.state)
        self.dataset = evaluation.data.load(cache=config.input.cache)
        with prefixed(f"evaluations.{evaluation.name}"):
            check_rows(step.modules.abstract_student(), self.dataset)
            number_terms.check_hidden(self.dataset)
        metrics = own_metrics.terms(evaluation.metrics)
        with own_metrics.named_in(evaluation.name):
            number_terms.check_terms(metrics, self.dataset)
            self._terms = HeldOutTerms(
                step,
                self.dataset,
                config=config,
                metrics=metrics,
            )
        self._rows, self.batch_size = self._terms.rows, evaluation.batch_size
        self._prediction_sums = _prediction_sums
        if isinstance(self.dataset.vocabulary, Channels):
            self._prediction_sums = _error_sums
        self._batches = functools.partial(
            evaluation_batches,
            self._rows,
            batch_size=evaluation.batch_size,
            sharding=mesh_lib.batch_sharding(step.mesh),
        )
        self._text_bytes: dict[int | None, float] = {}  # by limit
        with prefixed(f"evaluations.{evaluation.name}"):
            self._rollouts = self._own_rows()
        self._sums = jax.jit(self._batch_sums)

    @property
    def cautions(self) -> tuple[str, ...]:
        lines = [
            f"{self._name}: {term} not measured: its rows have no column "
            f"{', '.join(map(repr, names))}; "
            f"data=runner.data.Columns(data=..., file=..., fields={names}) joins it"
            for term, names in self._terms.lacking.items()
        ]
        if self._terms.left_out:
            names = ", ".join(
                x.removeprefix(own_metrics.PREFIX) for x in self._terms.left_out
            )
            lines.append(
                f"{self._name}: {names} not measured: the teacher's records do not "
                "cover this data"
            )
        return tuple(lines)

    def __call__(
        self,
        state: TrainState,
        *,
        limit: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> dict[str, float]:
        """Return the metrics of the state's student.

        Args:
          state: The train state.
          limit: Batches to evaluate, of rows spread evenly; None for all rows.
          progress: Called with the share that is done, after each batch.
        """
        rows = evaluation_rows(self.dataset, batch_size=self.batch_size, limit=limit)
        params = self._params(state)
        total: Tree = None
        running: Tree = None  # fetched once the next batch is under way
        for number, batch in enumerate(self._batches(limit=limit), start=1):
            if self._rollouts is not None:
                batch, _ = self._rollouts.write(
                    params,
                    state.variables,
                    batch,
                    jnp.int32(number),
                    ema=state.teacher,
                )
            sums = self._sums(
                params,
                state.variables,
                state.teacher,
                self._terms.frozen,
                batch,
                state.step,
            )
            total, running = _added(total, running), sums
            if progress is not None:
                progress(min(number * self.batch_size / len(rows), 1.0))
        total = _added(total, running)
        if limit not in self._text_bytes:
            self._text_bytes[limit] = self._bytes(rows)
        values = metrics(total, text_bytes=self._text_bytes[limit])
        return {**values, "share": len(rows) / len(self.dataset)}

    def names(self, state: TrainState) -> list[str]:
        """Return the names of the metrics of a state, which may be abstract.

        Raises:
          UserError: as `trace`.
        """
        some = jax.tree.map(lambda x: np.ones(x.shape), self.trace(state))
        text_bytes = self._bytes(np.arange(min(1, len(self.dataset))))
        return list(metrics(some, text_bytes=text_bytes))

    def trace(self, state: TrainState) -> Tree:
        """Return the shapes of a batch's sums, by tracing them.

        Args:
          state: The train state, which may be abstract.

        Raises:
          UserError: a metric or a term does not fit what student and teacher offer, or
            the optimizer keeps no such average.
        """
        row = {"index": np.zeros(1, np.int32), **self._rows.rows(np.zeros(1, np.int64))}
        # In the sharding of the batches, else the first would be traced again.
        sharding = mesh_lib.batch_sharding(self._step.mesh)
        batch = {
            name: jax.ShapeDtypeStruct(
                (self.batch_size, *x.shape[1:]), x.dtype, sharding=sharding
            )
            for name, x in row.items()
        }
        try:
            return jax.eval_shape(
                self._sums,
                self._params(state),
                state.variables,
                state.teacher,
                self._terms.frozen_shapes,
                batch,
                state.step,
            )
        except losses.IncompatibleLoss as error:
            raise UserError(f"evaluations.{self._name}: {error}") from error

    def _own_rows(self) -> CompiledRollouts | None:
        """Return what writes the rows, where the data is `OnPolicy`.

        Raises:
          UserError: the student writes no text.
        """
        if self.dataset.rollouts is None:
            return None
        return CompiledRollouts(
            self._step.modules,
            self.dataset.rollouts,
            mesh=self._step.mesh,
            rules=self._step.rules,
            seed=self._step.seed,
            teacher=self._step.teacher,
            frozen=lambda: self._step.frozen,
        )

    def _bytes(self, rows: np.ndarray) -> float:
        """Return the bytes of the rows' text; 0 where the student writes them."""
        return 0.0 if self._rollouts is not None else self.dataset.text_bytes(rows)

    def _params(self, state: TrainState) -> Tree:
        """Return the parameters to measure: the state's, or those of an average.

        Raises:
          UserError: the optimizer keeps no such average.
        """
        if not self._average:
            return state.params
        own = state.params["student"]
        mean = averages.student(state.opt_state, self._average, own)
        return {**state.params, "student": mean}

    def _batch_sums(
        self,
        params: Tree,
        variables: Tree,
        ema: Tree,
        frozen: Tree,
        batch: Batch,
        step: jax.Array,
    ) -> Tree:
        with sharding.use(self._step.mesh, self._step.rules):
            return self._terms.sums(
                params,
                variables,
                batch,
                step,
                ema=ema,
                frozen=frozen,
                prediction_sums=self._prediction_sums,
            )


def _added(total: Tree, sums: Tree) -> Tree:
    """Return float64 totals with the sums of a batch, if there are any."""
    if sums is None:
        return total
    sums = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(sums))
    return sums if total is None else jax.tree.map(np.add, total, sums)


def _prediction_sums(outputs: losses.Outputs) -> Tree:
    mask = outputs.mask
    assert mask is not None
    values = losses.CrossEntropy()(outputs)
    return {
        "count": jnp.sum(mask, dtype=jnp.float32),
        "nats": jnp.sum(jnp.where(mask, values, 0.0)),
        **prediction_metrics.of_predictions(outputs),
    }


def _error_sums(outputs: losses.Outputs) -> Tree:
    """Return the sum of the absolute errors of hidden numbers, and their number."""
    batch, mask = outputs.batch, outputs.mask
    assert mask is not None
    hidden = batch["hidden"] & mask[..., None]
    error = jnp.abs(outputs.logits - batch["values"])
    return {
        "count": jnp.sum(hidden, dtype=jnp.float32),
        "error": jnp.sum(jnp.where(hidden, error, 0.0)),
    }


def metrics(sums: Mapping[str, Any], *, text_bytes: float) -> dict[str, float]:
    """Return the metrics of `Evaluation` from sums over tokens and bytes of text."""
    count = max(float(sums["count"]), 1.0)
    if "error" in sums:
        values = {"loss": float(sums["error"]) / count}
    else:
        loss = float(sums["nats"]) / count
        values = {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "accuracy": float(np.sum(sums["correct"])) / count,
            "calibration_error": prediction_metrics.calibration_error(sums, count),
        }
    if text_bytes > 0:
        values["bits_per_byte"] = float(sums["nats"]) / text_bytes / math.log(2)
    for name, total in sums.get("terms", {}).items():
        if (counted := float(sums["counts"][name])) > 0:
            values[own_metrics.logged(name)] = float(total) / counted
    values |= {name: float(x) / count for name, x in sums.get("pairs", {}).items()}
    of_teacher = (
        metrics(sums["teacher"], text_bytes=text_bytes) if "teacher" in sums else {}
    )
    return values | {f"teacher/{name}": value for name, value in of_teacher.items()}


def gap_closed(loss: float, *, start: float, teacher: float) -> float | None:
    """Return `(l_0 - l) / (l_0 - l_teacher)`.

    None where there is no gap to close: the teacher is no better than the student was,
    and a student that got worse would have closed a share of it.
    """
    gap = start - teacher
    return None if gap < 1e-9 else (start - loss) / gap
