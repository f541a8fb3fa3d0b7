"""The gradient of the ordered list of weighted terms over a global batch.

    trunk forward, keeping its vjp
      -> the head and all terms, forward and backward (`runner.step.head_pass`)
      -> trunk backward

Weights and global counts are known before anything is differentiated, so that
`Σ_i w_i / N_i Σ mask·value` is one sum: over tokens, blocks, devices and microbatches.
What must be known first of the global batch (statistics, and the values that balances
and reweightings follow) costs one more pass each of the head, and of the trunk over
every microbatch where there are several.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from clu.metrics import Average

import losses
from losses.weighting.weights import TermReport, TermWeights
from models.base import Batch
from runner import runtime
from runner.state.trainable import TrainModules
from runner.step import expert_load
from runner.step.head_pass import HeadPass
from runner.step.microbatches import Microbatches, Strided, Whole
from runner.step.prepass import PrePass, PrePassResult, over
from runner.step.requirements import (
    capture,
    capture_of_teacher,
    check_balances,
    check_needs,
    check_scope,
    check_teacher,
    wants_teacher_logits,
)
from runner.step.trunk_pass import StudentTrunk, forward
from runner.teachers.base import LoadedTeacher

Tree = Any


@dataclasses.dataclass(frozen=True)
class StepGradients:
    """What one global batch says.

    params:        as `TrainState.params`.
    total:         `Σ_i w_i total_i / N_i`, and the penalties of balances.
    terms:         by name, unweighted sums and counts.
    weights:       by term and group, its own at this step.
    worth:         by term and group, its value, contribution and share.
    token_weights: by term, the mean over its tokens, where they are a reweighting's.
    memory:        as `TrainState.memory`, after this batch.
    expert_load:   `[layer expert]` tokens per expert, or None without experts.
    teacher_load:  the teacher's, or None where it shows none.
    """

    params: Tree
    total: jax.Array
    terms: Mapping[str, Average]
    weights: Mapping[str, jax.Array]
    worth: Mapping[str, TermReport]
    token_weights: Mapping[str, jax.Array]
    memory: Tree
    expert_load: jax.Array | None
    teacher_load: jax.Array | None


@dataclasses.dataclass(frozen=True)
class TeacherState:
    """The teacher's arrays: those that stay, and those that move with the student."""

    fixed: Tree = dataclasses.field(default_factory=dict)
    moving: Tree = dataclasses.field(default_factory=dict)


NOTHING_TAUGHT = TeacherState()
NOTHING_REMEMBERED: Mapping[str, Tree] = {"weights": {}, "tokens": {}}


class Objective:
    """The terms over a mesh, cut into microbatches and token blocks.

    Raises:
      UserError: a term needs what the model does not offer, or cannot be cut so.
    """

    def __init__(
        self,
        modules: TrainModules,
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Runtime,
        seed: int,
        teacher: LoadedTeacher | None = None,
        gradient_filter: float = 0.0,
    ):
        self.modules, self.mesh, self.config = modules, mesh, config.step
        self.teacher = teacher
        self.terms = modules.abstract_terms()
        offered = modules.abstract_student().offers()
        check_balances(modules.items)
        check_needs(self.terms, offered)
        check_teacher(self.terms, teacher)
        check_scope(self.terms, mesh=mesh, microbatches=config.step.microbatches)
        self.has_experts = offered >= expert_load.NEEDS
        taught = frozenset() if teacher is None else teacher.offers()
        self.teacher_routers = (
            expert_load.NEEDS if taught >= expert_load.NEEDS else frozenset()
        )
        self.capture = capture(self.terms) | (expert_load.NEEDS & offered)
        self.head_pass = HeadPass(
            modules,
            self.terms,
            mesh=mesh,
            config=config.head,
            seed=seed,
            gradient_filter=gradient_filter,
        )
        self.beforehand = PrePass(modules.items, self.terms, self.head_pass)

    def __call__(
        self,
        params: Tree,
        variables: Tree,
        batch: Batch,
        step: jax.Array,
        *,
        teacher: TeacherState = NOTHING_TAUGHT,
        memory: Tree = NOTHING_REMEMBERED,
    ) -> StepGradients:
        """Gradients over the global batch, summed over its microbatches."""
        known = self.known(params, variables, batch, step, teacher, memory)

        def weigh(learned: Tree) -> tuple[tuple[Tree, jax.Array], TermWeights]:
            weighed = losses.term_weights(
                self.modules.items, known.seen, learned, memory["weights"]
            )
            return (weighed.effective, weighed.penalty), weighed

        _, pullback, weighed = jax.vjp(weigh, params.get("weights", {}), has_aux=True)
        summed = self.gradients(known, weighed.effective)
        counts = known.given["counts"]
        means = over(counts, summed["weighted"])
        worth = losses.term_reports(self.modules.items, weighed, means)
        (d_weights,) = pullback((means, jnp.float32(1.0)))
        top = [worth[item.name].contribution for item in self.modules.items]
        return StepGradients(
            params=summed["params"] | {"weights": d_weights},
            total=sum(top, weighed.penalty),
            terms={
                name: losses.average(total, counts[name])
                for name, total in summed["terms"].items()
            },
            weights=weighed.weights,
            worth=worth,
            token_weights=over(
                counts, {n: jnp.sum(w) for n, w in known.reweighted.items()}
            ),
            memory={"weights": weighed.memory, "tokens": known.tokens},
            expert_load=summed.get("expert_load"),
            teacher_load=summed.get("teacher_load"),
        )

    def known(
        self,
        params: Tree,
        variables: Tree,
        batch: Batch,
        step: jax.Array,
        teacher: TeacherState,
        memory: Tree,
    ) -> PrePassResult:
        """What must be known of the global batch before its gradients."""
        masks = {term.name: term.mask(batch) for term in self.terms}
        given = {
            "variables": variables,
            "step": step,
            "counts": {n: jnp.sum(m, dtype=jnp.float32) for n, m in masks.items()},
        }
        microbatches = self._microbatches(params, given, batch, masks, teacher)
        return self.beforehand(
            microbatches, params, given, batch, masks, memory["tokens"]
        )

    def gradients(self, known: PrePassResult, effective: Tree) -> Tree:
        """The gradient of `Σ_i c_i L_i`, and sums by the names of `StepGradients`."""
        counts = known.given["counts"]
        given = known.given | {"scales": over(counts, effective)}

        def read(trunk: StudentTrunk) -> Tree:
            return self._gradients(known.params, given, trunk)

        return known.microbatches.sums(read, known.reweighted)

    def _microbatches(
        self,
        params: Tree,
        given: Tree,
        batch: Batch,
        masks: Tree,
        teacher: TeacherState,
    ) -> Microbatches:
        def run(part: tuple[Batch, Tree]) -> StudentTrunk:
            return self._trunk(params, given, *part, teacher)

        whole = (batch, masks)
        count = self.config.microbatches
        return (
            Whole(run, whole) if count == 1 else Strided(run, whole, count, self.mesh)
        )

    def _trunk(
        self,
        params: Tree,
        given: Tree,
        batch: Batch,
        masks: Tree,
        teacher: TeacherState,
    ) -> StudentTrunk:
        teacher_trunk = None
        if self.teacher is not None:
            teacher_trunk = self.teacher.teacher_trunk(
                teacher.fixed,
                teacher.moving,
                batch,
                capture=capture_of_teacher(self.terms) | self.teacher_routers,
                logits=wants_teacher_logits(self.terms),
            )
        return forward(
            self.modules,
            params["student"],
            given["variables"]["student"],
            batch,
            masks,
            capture=self.capture,
            remat=self.config.remat,
            teacher_trunk=teacher_trunk,
        )

    def _gradients(self, params: Tree, given: Tree, trunk: StudentTrunk) -> Tree:
        """Phases 2 and 3; sums, by the names of `StepGradients`."""
        sums, d_shared, d_tokens = self.head_pass.gradients(params, given, trunk)
        (d_student,) = trunk.pullback(d_tokens)
        sums["params"] = {
            "student": trunk.head.added(d_student, d_shared["head"]),
            "losses": d_shared["losses"],
        }
        if self.has_experts:
            sums["expert_load"] = expert_load.load(
                trunk.intermediates, trunk.constants["batch"]
            )
        if self.teacher_routers:
            sums["teacher_load"] = expert_load.load(
                trunk.constants["teacher"]["intermediates"], trunk.constants["batch"]
            )
        return sums
