"""The terms of a graph on held-out data, of the student and of its teacher."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from losses import FullOutputs, Loss, LossTerm, Outputs, target_mask
from losses.core.term_values import (
    Statistics,
    batch_statistics,
    per_token,
    wants_means,
)
from losses.core.terms import flat_terms
from models.base import Batch
from runner import runtime
from runner.data.dataset import Dataset
from runner.data.pipeline import Rows
from runner.evaluation import columns, prediction_metrics
from runner.step.arrays import TeacherState
from runner.step.compiled_step import CompiledStep
from runner.step.objective import Objective
from runner.step.requirements import TEACHER, compares_with_teacher

Tree = Any
Mask = Callable[[Batch], jax.Array]


class HeldOutTerms:
    """Every term of a step that can be measured on a dataset, unweighted.

    Attributes:
      left_out: Names of the terms that read records of other data.
      lacking: By term that is left out too, the columns that it reads and rows lack.
      rows: The dataset, joined with the teacher's records where they cover it.
    """

    def __init__(
        self,
        step: CompiledStep,
        dataset: Dataset,
        *,
        config: runtime.Runtime,
        metrics: Sequence[LossTerm] = (),
    ):
        """Compile nothing yet.

        Args:
          step: The train step.
          dataset: The held-out rows.
          config: The runtime settings; a batch here is never cut into microbatches.
          metrics: Terms that are measured beside those of the step.

        Raises:
          UserError: A metric needs what neither student nor teacher offers.
        """
        # Records may be of other rows than these: what reads them is left out.
        teacher = step.teacher
        reading = {
            term.name
            for term in (*step.objective.terms, *metrics)
            if any(path.startswith(TEACHER) for path in term.loss.needs)
        }
        covered = teacher is None or teacher.covers(dataset)
        self.left_out = () if covered else tuple(sorted(reading))
        self.lacking = columns.missing(step.objective.terms, dataset)
        self._teacher = teacher if covered and reading else None
        self.rows: Rows = dataset
        if self._teacher is not None:
            self.rows = self._teacher.rows_with_records(dataset)

        # The rest is measured by the objective of the step itself.
        self._step = step
        terms = [
            term
            for term in (*flat_terms(step.modules.items), *metrics)
            if term.name not in {*self.left_out, *self.lacking}
        ]
        self._objective = Objective(
            step.modules.with_items(_unweighted(terms, step.objective.terms)),
            mesh=step.mesh,
            config=dataclasses.replace(
                config, step=dataclasses.replace(config.step, microbatches=1)
            ),
            seed=step.seed,
            teacher=self._teacher,
            training=False,
        )
        self._of_logits = [
            term
            for term in self._objective.terms
            if term.loss.needs <= {"logits"}
            and isinstance(term.loss, Loss)
            and not isinstance(term.loss, nnx.Module)
            and not wants_means(term.loss)
        ]

    @property
    def frozen(self) -> Tree:
        """The teacher's arrays on the devices; none if it is not read."""
        return {} if self._teacher is None else self._step.frozen

    @property
    def frozen_shapes(self) -> Tree:
        """Their shapes, dtypes and shardings; nothing is read."""
        return {} if self._teacher is None else self._teacher.abstract

    def sums(
        self,
        params: Tree,
        variables: Tree,
        batch: Batch,
        step: jax.Array,
        *,
        ema: Tree,
        frozen: Tree,
        prediction_sums: Callable[[Outputs], dict[str, Any]],
    ) -> dict[str, Any]:
        """Return sums over the tokens of one batch.

        Args:
          params: As `TrainState.params`.
          variables: As `TrainState.variables`.
          batch: Arrays `[B ...]`; rows of index -1 only fill it up.
          step: Finished optimiser steps.
          ema: As `TrainState.teacher`.
          frozen: The arrays of `frozen`.
          prediction_sums: Of a block's outputs, over its targets: `outputs.mask`.

        Returns:
          Those of `prediction_sums`; `terms`, sums by name; `counts`, the tokens of
          each; and the same of a teacher that has whole logits, as `teacher`.
        """
        objective = self._objective
        tokens, inputs = objective.count(variables, batch, step)
        teacher = TeacherState(frozen=frozen, ema=ema)
        trunk = objective.trunk_runner(params, variables, tokens, teacher)(tokens)
        head_values, unknown = objective.head_values, inputs

        def sums_of(terms: Sequence[LossTerm], means: Statistics) -> Statistics:
            known = dataclasses.replace(unknown, statistics=means)
            return head_values.statistics(terms, params, known, trunk)

        statistics = batch_statistics(head_values.statistical, inputs.counts, sums_of)
        inputs = dataclasses.replace(inputs, statistics=statistics)

        def metric_sums(outputs: Outputs, masks: Mapping[str, jax.Array]) -> Tree:
            mask = _OfRows(target_mask)(outputs.batch)
            # Their values are masked, and not the rows: all share sums over these.
            counted = dataclasses.replace(outputs, mask=mask)
            of_student = prediction_sums(counted)
            if compares_with_teacher(objective.terms, self._teacher):
                of_student |= {"pairs": prediction_metrics.of_pair(counted)}
            taught = self._as_student(outputs)
            if taught is None:
                return of_student
            values = per_token(self._of_logits, taught, masks=masks, statistics={})
            sums = {name: jnp.sum(x.values) for name, x in values.items()}
            of_teacher = prediction_sums(dataclasses.replace(taught, mask=mask))
            return of_student | {"teacher": of_teacher | {"terms": sums}}

        terms, metrics = head_values.evaluate(params, inputs, trunk, metric_sums)
        if "teacher" in metrics:
            metrics["teacher"]["counts"] = inputs.counts
        return metrics | {"terms": terms, "counts": inputs.counts}

    def _as_student(self, outputs: Outputs) -> Outputs | None:
        """Return the outputs of a student that is the teacher, if it is a model."""
        teacher = outputs.teacher
        if self._teacher is None or self._teacher.stored is not None:
            return None
        if teacher is None or teacher.logits is None or teacher.indices is not None:
            return None
        return FullOutputs(
            batch=outputs.batch,
            logits=teacher.logits,
            intermediates={},
            step=outputs.step,
            key=outputs.key,
        )


def _unweighted(
    terms: Sequence[LossTerm], trained: Sequence[LossTerm]
) -> list[LossTerm]:
    """Return the terms without weights, over the rows that do not only fill a batch.

    Args:
      terms: as declared; one whose loss owns parameters is not built, and may leave its
        mask to it.
      trained: those of the step, built.
    """
    of_name = {term.name: term.mask for term in (*terms, *trained)}
    masks = {mask: _OfRows(mask) for mask in of_name.values()}
    return [
        dataclasses.replace(
            term, weight=1.0, token_weight=None, mask=masks[of_name[term.name]]
        )
        for term in terms
    ]


@dataclasses.dataclass(frozen=True)
class _OfRows:
    """A term's mask without the rows that only fill a batch."""

    mask: Mask | None

    def __call__(self, batch: Batch) -> jax.Array:
        assert self.mask is not None  # the losses are built
        tokens = self.mask(batch)
        real = batch["index"] >= 0  # of rows, or of the tokens of a block
        return tokens & jnp.expand_dims(real, range(real.ndim, tokens.ndim))
