"""What each term does to the gradient, and how student and teacher compare."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import losses
from models import sharding
from models.base import Batch
from runner.evaluation import prediction_metrics
from runner.head.head import Head
from runner.state.train_state import TrainState
from runner.step import expert_load
from runner.step.objective import TeacherState
from runner.step.prepass import PrePassResult
from runner.step.requirements import wants_teacher_logits
from runner.step.train_step import TrainStep
from runner.step.trunk_pass import StudentTrunk

Tree = Any


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Two terms whose gradients point apart in a part of the student."""

    part: str
    terms: tuple[str, str]
    cosine: float


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Of one batch.

    terms:       their names.
    inner:       by part of the student (`trunk`, and `head`: all that its head reads, a
                 tied embedding with it), `[term term]` inner products of the gradients
                 of the terms, weights included.
    scalars:     by name, means over the tokens that have a target.
    expert_load: `[layer expert]`, or None without experts.
    """

    terms: tuple[str, ...]
    inner: Mapping[str, np.ndarray]
    scalars: Mapping[str, float]
    expert_load: np.ndarray | None

    def norms(self, part: str) -> np.ndarray:
        """`‖g_i‖`, `[term]`."""
        return np.sqrt(np.diagonal(self.inner[part]))

    def cosines(self, part: str) -> np.ndarray:
        """`g_i · g_j / (‖g_i‖ ‖g_j‖)`, `[term term]`; NaN where a gradient is zero."""
        norms = self.norms(part)
        scale = norms[:, None] * norms
        return self.inner[part] / np.where(scale > 0.0, scale, np.nan)

    def conflicts(self) -> list[Conflict]:
        """Pairs of terms with a negative cosine, the worst first."""
        found = [
            Conflict(part, (self.terms[i], self.terms[j]), float(cosines[i, j]))
            for part in self.inner
            for cosines in [self.cosines(part)]
            for i, j in zip(*np.triu_indices(len(self.terms), 1), strict=True)
            if cosines[i, j] < 0.0
        ]
        return sorted(found, key=lambda conflict: conflict.cosine)


class Diagnostics:
    """Compiled for a step; it costs one backward pass a term, and their gradients.

    best: how many of the teacher's entries `mass_on_best` is about.
    """

    def __init__(self, step: TrainStep, *, best: int):
        self._step, self._best = step, best
        self._found = jax.jit(self._on_device)

    def __call__(self, state: TrainState, batch: Batch) -> Diagnosis:
        """What `batch` says at `state`; nothing of either is changed."""
        found = jax.device_get(self._found(state, batch, self._step.fixed))
        sums = {
            name: np.asarray(x, np.float64) for name, x in found["measures"].items()
        }
        count = max(float(sums.pop("count")), 1.0)
        predictions = {name: sums.pop(name) for name in ("correct", "confidence")}
        scalars = {name: float(x) / count for name, x in sums.items()}
        scalars["calibration_error"] = prediction_metrics.calibration_error(
            predictions, count
        )
        load = found.get("load")
        if load is not None:
            routers = found["router_entropy"]
            scalars["router_entropy"] = float(
                routers["total"] / max(routers["tokens"], 1.0)
            )
            scalars["unused_experts"] = float(np.sum(load == 0))
        return Diagnosis(
            terms=tuple(term.name for term in self._step.objective.terms),
            inner=found["inner"],
            scalars=scalars,
            expert_load=load,
        )

    def _on_device(self, state: TrainState, batch: Batch, fixed: Tree) -> Tree:
        with sharding.use(self._step.mesh, self._step.rules):
            return self._of_batch(state, batch, fixed)

    def _of_batch(self, state: TrainState, batch: Batch, fixed: Tree) -> Tree:
        objective = self._step.objective
        known = objective.known(
            state.params,
            state.variables,
            batch,
            state.step,
            TeacherState(fixed=fixed, moving=state.teacher),
            state.memory,
        )
        weighed = losses.term_weights(
            objective.modules.items,
            known.seen,
            state.params["weights"],
            state.memory["weights"],
        )
        names = list(weighed.effective)

        def of_one(chosen: jax.Array) -> Tree:
            effective = {
                name: chosen[i] * weighed.effective[name]
                for i, name in enumerate(names)
            }
            return objective.gradients(known, effective)["params"]["student"]

        gradients = jax.lax.map(of_one, jnp.eye(len(names)))

        def read(trunk: StudentTrunk) -> Tree:
            sums = {"measures": self._measures(known, trunk)}
            return sums | (_of_experts(trunk) if objective.has_experts else {})

        return {
            "inner": self._inner(state, batch, gradients),
            **known.microbatches.sums(read),
        }

    def _inner(self, state: TrainState, batch: Batch, gradients: Tree) -> Tree:
        """By part, the inner products; gradients are `[term ...]`."""
        modules = self._step.modules
        params, variables = state.params["student"], state.variables["student"]
        hidden = jax.eval_shape(
            lambda: modules.student(params, variables).trunk(batch).hidden
        )
        reads = Head(modules.student, params, variables, hidden).reads
        parts: dict[str, list[jax.Array]] = {"trunk": [], "head": []}
        for x, read in zip(jax.tree.leaves(gradients), reads, strict=True):
            axes = tuple(range(1, x.ndim))
            wide = x.astype(jnp.float32)
            product = jnp.tensordot(wide, wide, axes=(axes, axes))
            parts["head" if read else "trunk"].append(product)
        return {
            part: functools.reduce(jnp.add, products)
            for part, products in parts.items()
            if products
        }

    def _measures(self, known: PrePassResult, trunk: StudentTrunk) -> Tree:
        taught = trunk.teacher_trunk is not None and wants_teacher_logits(
            self._step.objective.terms
        )

        def measure(outputs: losses.Outputs) -> Tree:
            mask = losses.target_mask(outputs.batch)
            outputs = outputs.where(mask)
            found = {
                "count": jnp.sum(mask, dtype=jnp.float32),
                **prediction_metrics.of_predictions(outputs),
                **prediction_metrics.of_student(outputs),
            }
            if taught:
                found |= prediction_metrics.of_both(outputs, best=self._best)
            return found

        head_pass = self._step.objective.head_pass
        return head_pass.measured(known.params, known.given, trunk, measure)


def _of_experts(trunk: StudentTrunk) -> Tree:
    seen = trunk.intermediates, trunk.constants["batch"]
    entropy, tokens = expert_load.router_entropy(*seen)
    return {
        "load": expert_load.load(*seen),
        "router_entropy": {"total": entropy, "tokens": tokens},
    }
