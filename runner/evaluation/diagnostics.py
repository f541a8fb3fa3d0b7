"""The gradient of each loss term, and metrics of student against teacher."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from losses import Outputs, target_mask
from losses.weighting.weights import term_weights
from models import sharding
from models.base import Batch
from runner.evaluation import prediction_metrics
from runner.head.head import Head
from runner.state.train_state import TrainState
from runner.step import expert_load
from runner.step.arrays import StepInputs, TeacherState, Tokens
from runner.step.compiled_step import CompiledStep
from runner.step.requirements import compares_with_teacher
from runner.step.train_step import accumulate_gradients, with_parameter_gradients
from runner.step.trunk_pass import StudentTrunk

Tree = Any
_OF_BINS = ("correct", "confidence")


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Two terms whose gradients point apart in a part of the student.

    Attributes:
      part: `"trunk"` or `"head"`.
      terms: Their names.
      cosine: Of the two gradients; negative.
    """

    part: str
    terms: tuple[str, str]
    cosine: float


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Gradients of the terms, and prediction metrics, on one batch.

    Attributes:
      terms: Names of the terms.
      inner: By part of the student (`trunk`, and `head`: all that its head reads, a
        tied embedding with it), `[term term]` inner products of the gradients of the
        terms, weights included; a term of weight 0 is only watched, and has weight 1.
      scalars: By name, means over the tokens that have a target.
      expert_load: `[layer expert]`, or None without experts.
    """

    terms: tuple[str, ...]
    inner: Mapping[str, np.ndarray]
    scalars: Mapping[str, float]
    expert_load: np.ndarray | None

    def norms(self, part: str) -> np.ndarray:
        """Return `‖g_i‖`, `[term]`."""
        return np.sqrt(np.diagonal(self.inner[part]))

    def cosines(self, part: str) -> np.ndarray:
        """Return `g_i · g_j / (‖g_i‖ ‖g_j‖)`, `[term term]`; NaN at zero norms."""
        norms = self.norms(part)
        scale = norms[:, None] * norms
        return self.inner[part] / np.where(scale > 0.0, scale, np.nan)

    def conflicts(self) -> list[Conflict]:
        """Return the pairs of terms with a negative cosine, the worst first."""
        conflicts = [
            Conflict(part, (self.terms[i], self.terms[j]), float(cosines[i, j]))
            for part in self.inner
            for cosines in [self.cosines(part)]
            for i, j in zip(*np.triu_indices(len(self.terms), 1), strict=True)
            if cosines[i, j] < 0.0
        ]
        return sorted(conflicts, key=lambda conflict: conflict.cosine)


class Diagnostics:
    """The diagnosis, compiled for a step.

    It costs one backward pass a term, and the memory of all their gradients.
    """

    def __init__(self, step: CompiledStep, *, best: int, classes: bool = True):
        """Compile nothing yet.

        Args:
          step: The train step whose terms to diagnose.
          best: How many of the teacher's entries `mass_on_best` counts.
          classes: Whether logits are of classes; without there are no metrics of
            predictions.
        """
        self._step, self._best, self._classes = step, best, classes
        self._diagnose = jax.jit(self._on_device)

    def __call__(self, state: TrainState, batch: Batch) -> Diagnosis:
        """Return the diagnosis of `state` on `batch`; neither is changed."""
        results = jax.device_get(self._diagnose(state, batch, self._step.frozen))

        # Means over the tokens that have a target.
        sums = {
            name: np.asarray(x, np.float64) for name, x in results["measures"].items()
        }
        count = max(float(sums.pop("count")), 1.0)
        bins = {name: sums.pop(name) for name in _OF_BINS if name in sums}
        scalars = {name: float(x) / count for name, x in sums.items()}
        if bins:
            error = prediction_metrics.calibration_error(bins, count)
            scalars["calibration_error"] = error

        # The use of experts, where there are any.
        load = results.get("load")
        if load is not None:
            routers = results["router_entropy"]
            scalars["router_entropy"] = float(
                routers["total"] / max(routers["tokens"], 1.0)
            )
            scalars["unused_experts"] = float(np.sum(load == 0))
        return Diagnosis(
            terms=tuple(term.name for term in self._step.objective.terms),
            inner=results["inner"],
            scalars=scalars,
            expert_load=load,
        )

    def _on_device(self, state: TrainState, batch: Batch, frozen: Tree) -> Tree:
        with sharding.use(self._step.mesh, self._step.rules):
            return self._of_batch(state, batch, frozen)

    def _of_batch(self, state: TrainState, batch: Batch, frozen: Tree) -> Tree:
        # As in a step: counts, pre-pass, weights.
        objective, params = self._step.objective, state.params
        teacher = TeacherState(frozen=frozen, ema=state.teacher)
        tokens, inputs = objective.count(state.variables, batch, state.step)
        remembered = state.memory.get("losses", {})
        inputs = dataclasses.replace(inputs, statistics=remembered)
        run_trunk = objective.trunk_runner(params, state.variables, tokens, teacher)
        result = objective.prepass(
            params, inputs, tokens, state.memory["tokens"], run_trunk
        )
        weights = term_weights(
            objective.modules.items,
            with_parameter_gradients(objective, params, result, run_trunk),
            params["weights"],
            state.memory["weights"],
        ).effective

        # One backward pass a term, the weights of the others being 0.
        names = list(weights)

        def gradient_of_one(one_hot: jax.Array) -> Tree:
            alone = {
                name: one_hot[i] * jnp.where(weights[name] == 0.0, 1.0, weights[name])
                for i, name in enumerate(names)
            }
            sums = accumulate_gradients(
                objective, params, result.inputs, result.tokens, run_trunk, alone
            )
            return sums.params["student"]

        gradients = jax.lax.map(gradient_of_one, jnp.eye(len(names)))

        # One forward pass for what is measured.
        def measure(part: Tokens) -> Tree:
            trunk = run_trunk(part)
            sums = {"measures": self._measures(params, result.inputs, trunk)}
            return sums | (_expert_sums(trunk) if objective.has_experts else {})

        return {
            "inner": _inner(objective.head, gradients),
            **objective.accumulate(measure, result.tokens),
        }

    def _measures(self, params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> Tree:
        step = self._step
        compare = compares_with_teacher(step.objective.terms, step.teacher)

        def metric_sums(outputs: Outputs) -> Tree:
            # Tokens without a target may hold NaN: zero before anything is summed.
            mask = target_mask(outputs.batch)
            if not self._classes:
                return {"count": jnp.sum(mask, dtype=jnp.float32)}
            outputs = outputs.where(mask)
            sums = {
                "count": jnp.sum(mask, dtype=jnp.float32),
                **prediction_metrics.of_predictions(outputs),
                **prediction_metrics.of_student(outputs),
            }
            if compare:
                sums |= prediction_metrics.of_both(outputs, best=self._best)
            return sums

        head_values = step.objective.head_values
        return head_values.measure(params, inputs, trunk, metric_sums)


def _inner(head: Head, gradients: Tree) -> Tree:
    """Return the inner products by part of the student, of gradients `[term ...]`."""
    parts: dict[str, list[jax.Array]] = {"trunk": [], "head": []}
    for x, read in zip(jax.tree.leaves(gradients), head.reads, strict=True):
        axes = tuple(range(1, x.ndim))
        wide = x.astype(jnp.float32)
        product = jnp.tensordot(wide, wide, axes=(axes, axes))
        parts["head" if read else "trunk"].append(product)
    return {
        part: functools.reduce(jnp.add, products)
        for part, products in parts.items()
        if products
    }


def _expert_sums(trunk: StudentTrunk) -> Tree:
    arguments = trunk.intermediates, trunk.constants.batch
    entropy, tokens = expert_load.router_entropy(*arguments)
    return {
        "load": expert_load.load(*arguments),
        "router_entropy": {"total": entropy, "tokens": tokens},
    }
