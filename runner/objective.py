"""The gradient of the ordered list of weighted terms over a global batch.

    trunk forward, keeping its vjp
      -> the head and all terms, forward and backward (`runner.head_pass`)
      -> trunk backward

Weights and global counts are known before anything is differentiated, so that
`Σ_i w_i / N_i Σ mask·value` is one sum: over tokens, blocks, devices and microbatches.
What must be known first of the global batch (statistics, and the values that balances
and reweightings follow) costs one more pass each of the head, and of the trunk over
every microbatch where there are several.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from clu.metrics import Average

import losses
from losses.reweighting import Spread
from losses.weights import Seen, Weighed, Worth
from models.base import Batch
from runner import experts, runtime
from runner.head_pass import HeadPass
from runner.microbatches import Microbatches, Strided, Whole
from runner.state import Learnt
from runner.teachers.base import Loaded
from runner.terms import (
    capture,
    capture_of_teacher,
    check_balances,
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
    worth: Mapping[str, Worth]
    token_weights: Mapping[str, jax.Array]
    memory: Tree
    expert_load: jax.Array | None
    teacher_load: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Taught:
    """The teacher's arrays: those that stay, and those that move with the student."""

    fixed: Tree = dataclasses.field(default_factory=dict)
    moving: Tree = dataclasses.field(default_factory=dict)


NOTHING_TAUGHT = Taught()
NOTHING_REMEMBERED: Mapping[str, Tree] = {"weights": {}, "tokens": {}}


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a global batch before its gradients.

    given:      what every block reads besides parameters, but for the scales.
    reweighted: by term, `[*b]` token weights, where they are a reweighting's.
    tokens:     what reweightings remember from now on.
    seen:       what balances are made from.
    """

    microbatches: Microbatches
    params: Tree
    given: Tree
    reweighted: Tree
    tokens: Tree
    seen: Seen


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
        check_balances(learnt.items)
        check_needs(self.terms, offered)
        check_teacher(self.terms, teacher)
        check_scope(self.terms, mesh=mesh, microbatches=config.step.microbatches)
        self.has_experts = offered >= experts.NEEDS
        taught = frozenset() if teacher is None else teacher.offers()
        self.teacher_routers = experts.NEEDS if taught >= experts.NEEDS else frozenset()
        self.capture = capture(self.terms) | (experts.NEEDS & offered)
        self.head_pass = HeadPass(
            learnt,
            self.terms,
            mesh=mesh,
            config=config.head,
            seed=seed,
            gradient_filter=gradient_filter,
        )
        self._wants = {b.wants for b in losses.balances(learnt.items).values()}
        self._reweightings = {
            term.name: term.token_weight
            for term in self.terms
            if isinstance(term.token_weight, losses.Reweighting)
        }

    @property
    def passes(self) -> dict[str, bool]:
        """What may be wanted of the batch before its gradients, and whether it is."""
        return {
            "statistics": bool(self.head_pass.statistical),
            "values": bool(self._wants - {"nothing"})
            or any(r.wants_values for r in self._reweightings.values()),
            "gradients": "gradients" in self._wants,
        }

    def __call__(
        self,
        params: Tree,
        variables: Tree,
        batch: Batch,
        step: jax.Array,
        *,
        teacher: Taught = NOTHING_TAUGHT,
        memory: Tree = NOTHING_REMEMBERED,
    ) -> Gradients:
        """Gradients over the global batch, summed over its microbatches."""
        known = self.known(params, variables, batch, step, teacher, memory)

        def weigh(learned: Tree) -> tuple[tuple[Tree, jax.Array], Weighed]:
            weighed = losses.weigh(
                self.learnt.items, known.seen, learned, memory["weights"]
            )
            return (weighed.effective, weighed.penalty), weighed

        _, pullback, weighed = jax.vjp(weigh, params.get("weights", {}), has_aux=True)
        summed = self.gradients(known, weighed.effective)
        counts = known.given["counts"]
        means = _over(counts, summed["weighted"])
        worth = losses.worth(self.learnt.items, weighed, means)
        (d_weights,) = pullback((means, jnp.float32(1.0)))
        top = [worth[item.name].contribution for item in self.learnt.items]
        return Gradients(
            params=summed["params"] | {"weights": d_weights},
            total=sum(top, weighed.penalty),
            terms={
                name: losses.average(total, counts[name])
                for name, total in summed["terms"].items()
            },
            weights=weighed.weights,
            worth=worth,
            token_weights=_over(
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
        teacher: Taught,
        memory: Tree,
    ) -> Known:
        """Counts, statistics, values and token weights of the global batch."""
        masks = {term.name: term.mask(batch) for term in self.terms}
        counts = {n: jnp.sum(m, dtype=jnp.float32) for n, m in masks.items()}
        given = {"variables": variables, "step": step, "counts": counts}
        microbatches = self._microbatches(params, given, batch, masks, teacher)

        def reading(read: Callable[[Tree, Tree, Trunk], Tree]) -> Callable:
            return lambda trunk: read(params, given, trunk)

        sums = {}
        if self.passes["statistics"]:
            sums = microbatches.sums(reading(self.head_pass.statistics))
        given["statistics"] = _over(counts, sums)
        values = {}
        if self.passes["values"]:
            values = microbatches.each(reading(self.head_pass.values))
        reweighted, tokens = {}, {}
        for name, reweighting in self._reweightings.items():
            spread = Spread(
                values=values[name].values if values else None,
                mask=masks[name],
                batch=batch,
                step=step,
            )
            weights, tokens[name] = reweighting(spread, memory["tokens"][name])
            reweighted[name] = jnp.where(masks[name], weights, 0.0)
        means = None
        if values:
            added = {
                n: jnp.sum(x.weighted * reweighted.get(n, 1.0))
                for n, x in values.items()
            }
            means = _over(counts, added)
        inner = None
        if self.passes["gradients"]:
            read = reading(self.head_pass.inner_products)
            inner = microbatches.sums(read, reweighted)
        names = tuple(term.name for term in self.terms)
        return Known(
            microbatches=microbatches,
            params=params,
            given=given,
            reweighted=reweighted,
            tokens=tokens,
            seen=Seen(step=step, means=means, inner=inner, names=names),
        )

    def gradients(self, known: Known, effective: Tree) -> Tree:
        """The gradient of `Σ_i c_i L_i`, and sums by the names of `Gradients`."""
        counts = known.given["counts"]
        given = known.given | {"scales": _over(counts, effective)}

        def read(trunk: Trunk) -> Tree:
            return self._gradients(known.params, given, trunk)

        return known.microbatches.sums(read, known.reweighted)

    def _microbatches(
        self, params: Tree, given: Tree, batch: Batch, masks: Tree, teacher: Taught
    ) -> Microbatches:
        def run(part: tuple[Batch, Tree]) -> Trunk:
            return self._trunk(params, given, *part, teacher)

        whole = (batch, masks)
        count = self.config.microbatches
        return (
            Whole(run, whole) if count == 1 else Strided(run, whole, count, self.mesh)
        )

    def _trunk(
        self, params: Tree, given: Tree, batch: Batch, masks: Tree, teacher: Taught
    ) -> Trunk:
        lesson = None
        if self.teacher is not None:
            lesson = self.teacher.lesson(
                teacher.fixed,
                teacher.moving,
                batch,
                capture=capture_of_teacher(self.terms) | self.teacher_routers,
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
        if self.teacher_routers:
            sums["teacher_load"] = experts.load(
                trunk.constants["teacher"]["intermediates"], trunk.constants["batch"]
            )
        return sums


def _over(counts: Mapping[str, jax.Array], sums: Mapping[str, Tree]) -> dict[str, Tree]:
    """Masked sums by term, over the global counts."""
    return {
        name: jax.tree.map(lambda x, n=counts[name]: x / jnp.maximum(n, 1.0), tree)
        for name, tree in sums.items()
    }
