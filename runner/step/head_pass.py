"""Phase 2 of a step: the head and all terms, forward and backward, on each device.

The plan of `runner.head.plan` says what exists at a time. Each block of tokens runs
head forward, all terms, head backward: three matmuls, as in the textbook. Terms that
can be had from sums over the vocabulary are (`runner.head.vocab_tiles`); any others
see whole rows, and are differentiated as they stand. Values and gradients are the same.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import losses
from runner import runtime
from runner.head import plan as head_plan
from runner.head import vocab_tiles
from runner.head.token_blocks import TokenBlocks, added_trees
from runner.head.vocab_partition import VocabPartition
from runner.machine.mesh import batch_shards
from runner.state.trainable import TrainModules
from runner.step.block_outputs import BlockEvaluator, counted_by_any, teacher_tiles
from runner.step.requirements import scopes, statistical
from runner.step.trunk_pass import StudentTrunk

Tree = Any


class HeadPass:
    """The terms over what a trunk has computed.

    planned: how the head was cut when gradients were traced last, for a dry run.
    """

    planned: head_plan.HeadPlan | None = None

    def __init__(
        self,
        modules: TrainModules,
        terms: Sequence[losses.LossTerm],
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Head,
        seed: int,
        gradient_filter: float = 0.0,
    ):
        self.terms, self.statistical = terms, statistical(terms)
        self._mesh, self._config = mesh, config
        self._logits = any("logits" in term.needs for term in terms)
        self._shown = BlockEvaluator(modules, seed, gradient_filter)

    def statistics(self, params: Tree, given: Tree, trunk: StudentTrunk) -> Tree:
        """By term, the masked sums of what its `Loss.statistics` gives."""
        if not self.statistical:
            return {}
        needs_logits = any("logits" in term.loss.needs for term in self.statistical)

        def sums(shared: Tree, block: Tree) -> Tree:
            tokens, constants = block
            read, fixed = shared
            outputs = self._shown.rows(
                trunk, read, fixed, tokens, constants, logits=needs_logits
            )
            names = {term.name for term in self.statistical}
            terms = [t for t in self._shown.terms(read, fixed) if t.name in names]
            return losses.statistic_sums(terms, outputs, masks=constants["masks"])

        return self._blocks_of_rows(params, given, trunk).sums(
            sums, *_fixed(params, given, trunk)
        )

    def measured(
        self,
        params: Tree,
        given: Tree,
        trunk: StudentTrunk,
        measure: Callable[[losses.Outputs], Tree],
    ) -> Tree:
        """`Σ_blocks measure(outputs)`; nothing is learnt."""

        def found(shared: Tree, block: Tree) -> Tree:
            read, fixed = shared
            tokens, constants = block
            outputs = self._shown.rows(
                trunk, read, fixed, tokens, constants, logits=True
            )
            return measure(outputs)

        return self._blocks_of_rows(params, given, trunk).sums(
            found, *_fixed(params, given, trunk)
        )

    def values(self, params: Tree, given: Tree, trunk: StudentTrunk) -> Tree:
        """By term, `losses.TokenValues` of all tokens, `[*b]`; nothing is learnt."""

        def found(shared: Tree, block: Tree) -> Tree:
            tokens, constants = block
            return self._values(trunk, shared, tokens, constants)

        return self._blocks_of_rows(params, given, trunk).each(
            found, *_fixed(params, given, trunk)
        )

    def inner_products(
        self, params: Tree, given: Tree, trunk: StudentTrunk
    ) -> jax.Array:
        """`Σ_tokens ∂L_i · ∂L_j`, `[term term]`, L being means over the global batch.

        The gradients are those in `trunk.tokens`, one term at a time.
        """
        names = [term.name for term in self.terms]
        blocks = self._blocks_of_rows(params, given, trunk)

        def products(shared: Tree, block: Tree) -> jax.Array:
            tokens, constants = block

            def of_terms(tokens: Tree) -> jax.Array:
                found = self._values(trunk, shared, tokens, constants)
                counts = shared[1]["counts"]
                return jnp.stack(
                    [
                        jnp.sum(found[name].weighted) / jnp.maximum(counts[name], 1.0)
                        for name in names
                    ]
                )

            _, pullback = jax.vjp(of_terms, tokens)
            each = blocks.varying(jnp.eye(len(names)))
            found = jax.lax.map(lambda one: pullback(one)[0], each)
            flat = [
                x.reshape((len(names), -1)).astype(jnp.float32)
                for x in jax.tree.leaves(found)
            ]
            return functools.reduce(jnp.add, [x @ x.T for x in flat])

        return blocks.sums(products, *_fixed(params, given, trunk))

    def _values(
        self,
        trunk: StudentTrunk,
        shared: tuple[Tree, Tree],
        tokens: Tree,
        constants: Tree,
    ) -> dict[str, losses.TokenValues]:
        read, fixed = shared
        outputs = self._shown.rows(
            trunk, read, fixed, tokens, constants, logits=self._logits
        )
        return self._shown.values(read, fixed, constants, outputs)

    def gradients(
        self, params: Tree, given: Tree, trunk: StudentTrunk
    ) -> tuple[dict[str, Any], Tree, Tree]:
        """Sums (`terms` and `weighted`, by name), d shared and d tokens.

        d shared: `head`, by what the head reads, and `losses`. d tokens: as
        `trunk.tokens`.
        """
        plan = self.planned = self.plan(params, given, trunk)
        run = self._by_sums if plan.by_sums else self._by_rows
        (sums, d_shared), d_tokens = run(
            plan, trunk, _read(params, trunk), _with_lesson(given, trunk)
        )
        return sums, d_shared, d_tokens

    def plan(
        self, params: Tree, given: Tree, trunk: StudentTrunk, *, by_rows: bool = False
    ) -> head_plan.HeadPlan:
        """How the head of this trunk is cut; by_rows: whole rows are wanted."""
        axes = trunk.constants["batch"]["targets"].shape
        tokens = math.ceil(math.prod(axes) / batch_shards(self._mesh))
        together = {"token": 1, "sequence": math.prod(axes[1:]), "batch": tokens}
        terms = head_plan.HeadCost(
            sides=1
            + (trunk.teacher_trunk is not None and trunk.teacher_trunk.whole)
            + sum(isinstance(term.loss, losses.OwnHead) for term in self.terms),
            tileable=not by_rows and self._tileable(params, given, trunk),
            linear=trunk.head.is_linear,
            together=max(together[scope] for scope in scopes(self.terms)),
        )
        entries = trunk.head.num_outputs // trunk.head.shards
        return head_plan.choose(self._config, terms, tokens=tokens, entries=entries)

    def _blocks(self, trunk: StudentTrunk, plan: head_plan.HeadPlan) -> TokenBlocks:
        return TokenBlocks(
            mesh=self._mesh,
            token_axes=trunk.constants["batch"]["targets"].shape,
            size=plan.tokens,
            whole=scopes(self.terms) != {"token"},
        )

    def _blocks_of_rows(
        self, params: Tree, given: Tree, trunk: StudentTrunk
    ) -> TokenBlocks:
        return self._blocks(trunk, self.plan(params, given, trunk, by_rows=True))

    def _by_rows(
        self, plan: head_plan.HeadPlan, trunk: StudentTrunk, shared: Tree, given: Tree
    ) -> tuple[tuple[Tree, Tree], Tree]:
        def block(
            shared: Tree, tokens: Tree, given: Tree, constants: Tree
        ) -> tuple[jax.Array, Tree]:
            outputs = self._shown.rows(
                trunk, shared, given, tokens, constants, logits=self._logits
            )
            return self._shown.total(shared, given, constants, outputs)

        return self._blocks(trunk, plan).gradients(
            block, shared, trunk.tokens, given, trunk.constants
        )

    def _by_sums(
        self, plan: head_plan.HeadPlan, trunk: StudentTrunk, shared: Tree, given: Tree
    ) -> tuple[tuple[Tree, Tree], Tree]:
        cut = VocabPartition.of(
            trunk.head.num_outputs,
            shards=trunk.head.shards,
            entries=plan.entries * trunk.head.shards,
        )
        blocks = self._blocks(trunk, plan)

        def block(total: Tree, given: Tree, block: Tree) -> tuple[Tree, Tree]:
            (sums, d_shared), (shared, fixed) = total, given
            tokens, constants = block
            counted = counted_by_any(constants)
            hidden = jnp.where(counted, tokens["hidden"], 0).astype(jnp.float32)
            teacher = teacher_tiles(trunk, fixed, constants)
            d_head, d_hidden, d_seen, known = vocab_tiles.gradients(
                vocab_tiles.Tiles(
                    trunk.head, fixed["variables"]["student"], cut, teacher
                ),
                self._shown.value(trunk, fixed, constants),
                leaves=shared["head"],
                hidden=hidden,
                seen=(shared["losses"], tokens["intermediates"]),
                d_leaves=d_shared["head"],
                keep=plan.mode != "lean",
                least=self._shown.least(fixed),
                varying=blocks.varying,
            )
            d_losses, d_intermediates = d_seen
            following = (
                added_trees(sums, known),
                {
                    "head": d_head,
                    "losses": added_trees(d_shared["losses"], d_losses),
                },
            )
            d_hidden = jnp.where(counted, d_hidden, 0).astype(tokens["hidden"].dtype)
            return following, {"hidden": d_hidden, "intermediates": d_intermediates}

        def like(given: Tree, block: Tree) -> Tree:
            shared, fixed = given
            tokens, constants = block
            value = self._shown.value(trunk, fixed, constants)
            axes = constants["batch"]["targets"].shape
            seen = (shared["losses"], tokens["intermediates"])
            return value(losses.SumRequests(axes), seen)[1], shared

        return blocks.accumulated(
            block, like, (shared, given), (trunk.tokens, trunk.constants)
        )

    def _tileable(self, params: Tree, given: Tree, trunk: StudentTrunk) -> bool:
        """Whether every term can be had from sums, and every head by tiles."""
        teacher_trunk = trunk.teacher_trunk
        if (
            not self._logits
            or not trunk.head.tileable
            or (
                teacher_trunk is not None
                and teacher_trunk.tiles is not None
                and not teacher_trunk.tiles.fit(
                    trunk.head.num_outputs, trunk.head.shards
                )
            )
        ):
            return False

        def asked(shared: Tree, given: Tree, tokens: Tree, constants: Tree) -> Tree:
            value = self._shown.value(trunk, given, constants)
            axes = constants["batch"]["targets"].shape
            seen = (shared["losses"], tokens["intermediates"])
            return value(losses.SumRequests(axes), seen)

        try:
            jax.eval_shape(
                asked,
                _read(params, trunk),
                _with_lesson(given, trunk),
                trunk.tokens,
                trunk.constants,
            )
        except losses.NeedsFullLogits:
            return False
        return True


def _read(params: Tree, trunk: StudentTrunk) -> Tree:
    """What every block reads, and is differentiated in."""
    return {"head": trunk.head.leaves(params["student"]), "losses": params["losses"]}


def _fixed(params: Tree, given: Tree, trunk: StudentTrunk) -> tuple[Tree, Tree]:
    """What blocks share, and what is cut into them, where nothing is learnt."""
    shared = (_read(params, trunk), _with_lesson(given, trunk))
    return shared, (jax.lax.stop_gradient(trunk.tokens), trunk.constants)


def _with_lesson(given: Tree, trunk: StudentTrunk) -> Tree:
    """With what the blocks read of the teacher's head."""
    return given | {
        "lesson": {} if trunk.teacher_trunk is None else trunk.teacher_trunk.shared
    }
