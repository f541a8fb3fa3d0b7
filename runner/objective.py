"""The gradient of the ordered list of weighted terms over a global batch.

    trunk forward, keeping its vjp
      -> the head and all terms, forward and backward (`runner.head_pass`)
      -> trunk backward

Weights and global counts are known before anything is differentiated, so that
`Σ_i w_i / N_i Σ mask·value` is one sum: over tokens, blocks, devices and microbatches.
Statistics, too, are means over the global batch; they cost one more pass of the trunk
over every microbatch when there are several, and next to nothing when there is one.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from clu.metrics import Average

import losses
from models.base import Batch
from runner import experts, runtime
from runner.blocks import accumulate
from runner.head_pass import HeadPass
from runner.mesh import batch_sharding
from runner.state import Learnt
from runner.teachers.base import Loaded
from runner.terms import (
    capture,
    capture_of_teacher,
    check_needs,
    check_scope,
    check_teacher,
    wants_teacher_logits,
)
from runner.trunk import Trunk, forward

Tree = Any


@dataclasses.dataclass(frozen=True)
class Gradients:
    """What one global batch says.

    params:       as `TrainState.params`.
    total:        `Σ_i w_i total_i / N_i`, the objective.
    terms:        by name, unweighted sums and counts.
    expert_load:  `[layer expert]` tokens per expert, or None without experts.
    """

    params: Tree
    total: jax.Array
    terms: Mapping[str, Average]
    expert_load: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Taught:
    """The teacher's arrays: those that stay, and those that move with the student."""

    fixed: Tree = dataclasses.field(default_factory=dict)
    moving: Tree = dataclasses.field(default_factory=dict)


NOTHING_TAUGHT = Taught()


class Objective:
    """The terms over a mesh, cut into microbatches and token blocks.

    Raises:
      UserError: a term needs what the model does not offer, or cannot be cut so.
    """

    def __init__(
        self,
        learnt: Learnt,
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Runtime,
        seed: int,
        teacher: Loaded | None = None,
        gradient_filter: float = 0.0,
    ):
        self.learnt, self.mesh, self.config = learnt, mesh, config.step
        self.teacher = teacher
        self.terms = learnt.abstract_terms()
        offered = learnt.abstract_student().offers()
        check_needs(self.terms, offered)
        check_teacher(self.terms, teacher)
        check_scope(self.terms, mesh=mesh, microbatches=config.step.microbatches)
        self.has_experts = offered >= experts.NEEDS
        self.capture = capture(self.terms) | (experts.NEEDS & offered)
        self.head_pass = HeadPass(
            learnt,
            self.terms,
            mesh=mesh,
            config=config.head,
            seed=seed,
            gradient_filter=gradient_filter,
        )

    def __call__(
        self,
        params: Tree,
        variables: Tree,
        batch: Batch,
        step: jax.Array,
        *,
        teacher: Taught = NOTHING_TAUGHT,
    ) -> Gradients:
        """Gradients over the global batch, summed over its microbatches."""
        masks = {term.name: term.mask(batch) for term in self.terms}
        counts = {n: jnp.sum(m, dtype=jnp.float32) for n, m in masks.items()}
        given = {
            "variables": variables,
            "step": step,
            "counts": counts,
            "scales": {
                term.name: term.weight_at(step) / jnp.maximum(counts[term.name], 1.0)
                for term in self.terms
            },
        }
        run = self._one if self.config.microbatches == 1 else self._many
        summed = run(params, given, batch, masks, teacher)
        return Gradients(
            params=summed["params"],
            total=summed["total"],
            terms={
                name: losses.average(total, counts[name])
                for name, total in summed["terms"].items()
            },
            expert_load=summed.get("expert_load"),
        )

    def _one(
        self, params: Tree, given: Tree, batch: Batch, masks: Tree, teacher: Taught
    ) -> Tree:
        trunk = self._trunk(params, given, batch, masks, teacher)
        means = _means(self.head_pass.statistics(params, given, trunk), given)
        return self._gradients(params, given | means, trunk)

    def _many(
        self, params: Tree, given: Tree, batch: Batch, masks: Tree, teacher: Taught
    ) -> Tree:
        parts = jax.tree.map(self._strided, (batch, masks))

        def statistics(part: tuple[Tree, Tree]) -> Tree:
            trunk = self._trunk(params, given, *part, teacher)
            return self.head_pass.statistics(params, given, trunk)

        first = accumulate(statistics, parts) if self.head_pass.statistical else {}
        means = _means(first, given)

        def gradients(part: tuple[Tree, Tree]) -> Tree:
            trunk = self._trunk(params, given, *part, teacher)
            return self._gradients(params, given | means, trunk)

        return accumulate(gradients, parts)

    def _strided(self, x: jax.Array) -> jax.Array:
        """`[B ...]` to `[M, B/M, ...]`, every M-th row, so that no row moves device."""
        count = self.config.microbatches
        parts = jnp.moveaxis(x.reshape((-1, count, *x.shape[1:])), 1, 0)
        rows = batch_sharding(self.mesh).spec
        placed = jax.sharding.NamedSharding(
            self.mesh, jax.sharding.PartitionSpec(None, *rows)
        )
        return jax.lax.with_sharding_constraint(parts, placed)

    def _trunk(
        self, params: Tree, given: Tree, batch: Batch, masks: Tree, teacher: Taught
    ) -> Trunk:
        lesson = None
        if self.teacher is not None:
            lesson = self.teacher.lesson(
                teacher.fixed,
                teacher.moving,
                batch,
                capture=capture_of_teacher(self.terms),
                logits=wants_teacher_logits(self.terms),
            )
        return forward(
            self.learnt,
            params["student"],
            given["variables"]["student"],
            batch,
            masks,
            capture=self.capture,
            remat=self.config.remat,
            lesson=lesson,
        )

    def _gradients(self, params: Tree, given: Tree, trunk: Trunk) -> Tree:
        """Phases 2 and 3; sums, by the names of `Gradients`."""
        sums, d_shared, d_tokens = self.head_pass.gradients(params, given, trunk)
        (d_student,) = trunk.pullback(d_tokens)
        sums["params"] = {
            "student": trunk.head.added(d_student, d_shared["head"]),
            "losses": d_shared["losses"],
        }
        if self.has_experts:
            sums["expert_load"] = experts.load(
                trunk.intermediates, trunk.constants["batch"]
            )
        return sums


def _means(sums: Tree, given: Tree) -> Tree:
    """Masked sums by term, over the global counts."""
    counts = {name: jnp.maximum(n, 1.0) for name, n in given["counts"].items()}
    return {
        "statistics": {
            name: jax.tree.map(lambda x, n=counts[name]: x / n, by_name)
            for name, by_name in sums.items()
        }
    }
