"""The gradient of the ordered list of weighted terms over a global batch.

    trunk forward, keeping its vjp
      -> token blocks: head forward, all terms, head backward
      -> trunk backward

Weights and global counts are known before anything is differentiated, so that
`Σ_i w_i / N_i Σ mask·value` is one sum: over tokens, blocks, devices and microbatches.
Statistics, too, are means over the global batch; they cost one more pass of the trunk
over every microbatch when there are several, and next to nothing when there is one.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from clu.metrics import Average

import losses
from models.base import Batch
from runner import experts, runtime
from runner.blocks import Blocks, accumulate
from runner.mesh import batch_sharding
from runner.state import Learnt
from runner.teachers.base import Loaded
from runner.terms import (
    capture,
    capture_of_teacher,
    check_needs,
    check_scope,
    check_teacher,
    scopes,
    statistical,
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
        config: runtime.Step,
        seed: int,
        teacher: Loaded | None = None,
    ):
        self.learnt, self.mesh, self.config, self.seed = learnt, mesh, config, seed
        self.teacher = teacher
        self.terms = learnt.abstract_terms()
        offered = learnt.abstract_student().offers()
        check_needs(self.terms, offered)
        check_teacher(self.terms, teacher)
        check_scope(self.terms, mesh=mesh, microbatches=config.microbatches)
        self.statistical = statistical(self.terms)
        self.has_experts = offered >= experts.NEEDS
        self.capture = capture(self.terms) | (experts.NEEDS & offered)

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
        means = _means(self._statistics(params, given, trunk), given)
        return self._gradients(params, given | means, trunk)

    def _many(
        self, params: Tree, given: Tree, batch: Batch, masks: Tree, teacher: Taught
    ) -> Tree:
        parts = jax.tree.map(self._strided, (batch, masks))

        def statistics(part: tuple[Tree, Tree]) -> Tree:
            trunk = self._trunk(params, given, *part, teacher)
            return self._statistics(params, given, trunk)

        means = _means(accumulate(statistics, parts) if self.statistical else {}, given)

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

    def _statistics(self, params: Tree, given: Tree, trunk: Trunk) -> Tree:
        """By term, the masked sums of what its `Loss.statistics` gives."""
        if not self.statistical:
            return {}

        def sums(shared: Tree, block: Tree) -> Tree:
            terms, outputs = self._outputs(self.statistical, trunk, *shared, *block)
            return losses.statistic_sums(terms, outputs, masks=block[1]["masks"])

        shared = (self._read_by_blocks(params, trunk), _with_lesson(given, trunk))
        block = (jax.lax.stop_gradient(trunk.tokens), trunk.constants)
        return self._blocks(trunk).sums(sums, shared, block)

    def _gradients(self, params: Tree, given: Tree, trunk: Trunk) -> Tree:
        """Phases 2 and 3; sums, by the names of `Gradients`."""

        def block(
            shared: Tree, tokens: Tree, given: Tree, constants: Tree
        ) -> tuple[jax.Array, Tree]:
            terms, outputs = self._outputs(
                self.terms, trunk, shared, given, tokens, constants
            )
            found = losses.per_token(
                terms,
                outputs,
                masks=constants["masks"],
                statistics=given["statistics"],
            )
            weighted = [
                given["scales"][name] * jnp.sum(term.weighted)
                for name, term in found.items()
            ]
            total = functools.reduce(jnp.add, weighted)
            sums = {name: jnp.sum(term.values) for name, term in found.items()}
            return total, {"total": total, "terms": sums}

        (sums, d_shared), d_tokens = self._blocks(trunk).gradients(
            block,
            self._read_by_blocks(params, trunk),
            trunk.tokens,
            _with_lesson(given, trunk),
            trunk.constants,
        )
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

    def _blocks(self, trunk: Trunk) -> Blocks:
        token_axes = trunk.constants["batch"]["targets"].shape
        seen = scopes(self.terms)
        return Blocks(
            mesh=self.mesh,
            token_axes=token_axes,
            size=math.prod(token_axes) if "batch" in seen else self.config.token_block,
            whole=seen != {"token"},
        )

    def _read_by_blocks(self, params: Tree, trunk: Trunk) -> Tree:
        return {
            "head": trunk.head.leaves(params["student"]),
            "losses": params["losses"],
        }

    def _outputs(
        self,
        terms: Sequence[losses.LossTerm],
        trunk: Trunk,
        shared: Tree,
        given: Tree,
        tokens: Tree,
        constants: Tree,
    ) -> tuple[list[losses.LossTerm], losses.Outputs]:
        """One block as `terms` see it; hidden states that none counts are zero."""
        counted = functools.reduce(jnp.logical_or, constants["masks"].values())
        hidden = jnp.where(counted[..., None], tokens["hidden"], 0)
        logits = jnp.zeros((*counted.shape, 0))
        if any("logits" in term.loss.needs for term in terms):
            student = given["variables"]["student"]
            logits = trunk.head(shared["head"], student, hidden)
        teacher = None
        if trunk.lesson is not None:
            teacher = trunk.lesson.outputs(
                given["lesson"], constants["teacher"], constants["batch"]
            )
        outputs = losses.Outputs(
            batch=constants["batch"],
            logits=logits,
            intermediates={**tokens["intermediates"], **constants["intermediates"]},
            teacher=jax.lax.stop_gradient(teacher),
            step=given["step"],
            key=jax.random.fold_in(jax.random.key(self.seed), given["step"]),
        )
        names = {term.name for term in terms}
        whole = self.learnt.terms(shared["losses"], given["variables"]["losses"])
        return [term for term in whole if term.name in names], outputs


def _with_lesson(given: Tree, trunk: Trunk) -> Tree:
    """With what the blocks read of the teacher's head."""
    return given | {"lesson": {} if trunk.lesson is None else trunk.lesson.shared}


def _means(sums: Tree, given: Tree) -> Tree:
    """Masked sums by term, over the global counts."""
    counts = {name: jnp.maximum(n, 1.0) for name, n in given["counts"].items()}
    return {
        "statistics": {
            name: jax.tree.map(lambda x, n=counts[name]: x / n, by_name)
            for name, by_name in sums.items()
        }
    }
