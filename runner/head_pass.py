"""Phase 2 of a step: the head and all terms, forward and backward, on each device.

The plan of `runner.head_plan` says what exists at a time. Each block of tokens runs
head forward, all terms, head backward: three matmuls, as in the textbook. Terms that
can be had from sums over the vocabulary are (`runner.tiles`); any others see whole
rows, and are differentiated as they stand. Values and gradients are the same.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import losses
from runner import head_plan, runtime, tiles
from runner.blocks import Blocks
from runner.gradient_filter import filtered
from runner.mesh import batch_shards
from runner.state import Learnt
from runner.terms import scopes, statistical
from runner.trunk import Trunk
from runner.vocabulary_cut import VocabularyCut

Tree = Any


class HeadPass:
    """The terms over what a trunk has computed.

    planned: how the head was cut when gradients were traced last, for a dry run.
    """

    planned: head_plan.Plan | None = None

    def __init__(
        self,
        learnt: Learnt,
        terms: Sequence[losses.LossTerm],
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Head,
        seed: int,
        gradient_filter: float = 0.0,
    ):
        self.terms, self.statistical = terms, statistical(terms)
        self._learnt, self._mesh, self._config, self._seed = learnt, mesh, config, seed
        self._gradient_filter = gradient_filter

    def statistics(self, params: Tree, given: Tree, trunk: Trunk) -> Tree:
        """By term, the masked sums of what its `Loss.statistics` gives."""
        if not self.statistical:
            return {}
        needs_logits = any("logits" in term.loss.needs for term in self.statistical)

        def sums(shared: Tree, block: Tree) -> Tree:
            tokens, constants = block
            read, fixed = shared
            outputs = self._whole(
                trunk, read, fixed, tokens, constants, logits=needs_logits
            )
            terms = self._live(read, fixed, self.statistical)
            return losses.statistic_sums(terms, outputs, masks=constants["masks"])

        shared = (_read(params, trunk), _with_lesson(given, trunk))
        block = (jax.lax.stop_gradient(trunk.tokens), trunk.constants)
        blocks = self._blocks(trunk, self.plan(params, given, trunk, by_rows=True))
        return blocks.sums(sums, shared, block)

    def gradients(
        self, params: Tree, given: Tree, trunk: Trunk
    ) -> tuple[dict[str, Any], Tree, Tree]:
        """Sums (`total`, and `terms` by name), d shared and d tokens.

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
        self, params: Tree, given: Tree, trunk: Trunk, *, by_rows: bool = False
    ) -> head_plan.Plan:
        """How the head of this trunk is cut; by_rows: whole rows are wanted."""
        axes = trunk.constants["batch"]["targets"].shape
        tokens = math.ceil(math.prod(axes) / batch_shards(self._mesh))
        together = {"token": 1, "sequence": math.prod(axes[1:]), "batch": tokens}
        terms = head_plan.Terms(
            sides=1 + (trunk.lesson is not None and trunk.lesson.whole),
            tileable=not by_rows and self._tileable(params, given, trunk),
            linear=trunk.head.is_linear,
            together=max(together[scope] for scope in scopes(self.terms)),
        )
        entries = trunk.head.num_outputs // trunk.head.shards
        return head_plan.choose(self._config, terms, tokens=tokens, entries=entries)

    def _blocks(self, trunk: Trunk, plan: head_plan.Plan) -> Blocks:
        return Blocks(
            mesh=self._mesh,
            token_axes=trunk.constants["batch"]["targets"].shape,
            size=plan.tokens,
            whole=scopes(self.terms) != {"token"},
        )

    def _by_rows(
        self, plan: head_plan.Plan, trunk: Trunk, shared: Tree, given: Tree
    ) -> tuple[tuple[Tree, Tree], Tree]:
        logits = any("logits" in term.loss.needs for term in self.terms)

        def block(
            shared: Tree, tokens: Tree, given: Tree, constants: Tree
        ) -> tuple[jax.Array, Tree]:
            outputs = self._whole(
                trunk, shared, given, tokens, constants, logits=logits
            )
            return self._total(shared, given, constants, outputs)

        return self._blocks(trunk, plan).gradients(
            block, shared, trunk.tokens, given, trunk.constants
        )

    def _by_sums(
        self, plan: head_plan.Plan, trunk: Trunk, shared: Tree, given: Tree
    ) -> tuple[tuple[Tree, Tree], Tree]:
        cut = VocabularyCut.of(
            trunk.head.num_outputs,
            shards=trunk.head.shards,
            entries=plan.entries * trunk.head.shards,
        )

        blocks = self._blocks(trunk, plan)

        def block(total: Tree, given: Tree, block: Tree) -> tuple[Tree, Tree]:
            (sums, d_shared), (shared, fixed) = total, given
            tokens, constants = block
            counted = _counted(constants)
            hidden = jnp.where(counted, tokens["hidden"], 0).astype(jnp.float32)
            teacher = _teacher_tiles(trunk, fixed, constants)
            d_head, d_hidden, d_seen, known = tiles.gradients(
                tiles.Tiles(trunk.head, fixed["variables"]["student"], cut, teacher),
                self._value(trunk, fixed, constants),
                leaves=shared["head"],
                hidden=hidden,
                seen=(shared["losses"], tokens["intermediates"]),
                d_leaves=d_shared["head"],
                keep=plan.mode != "lean",
                least=self._least(fixed),
                varying=blocks.varying,
            )
            d_losses, d_intermediates = d_seen
            following = (
                _added(sums, known),
                {
                    "head": d_head,
                    "losses": _added(d_shared["losses"], d_losses),
                },
            )
            d_hidden = jnp.where(counted, d_hidden, 0).astype(tokens["hidden"].dtype)
            return following, {"hidden": d_hidden, "intermediates": d_intermediates}

        def like(given: Tree, block: Tree) -> Tree:
            shared, fixed = given
            tokens, constants = block
            value = self._value(trunk, fixed, constants)
            axes = constants["batch"]["targets"].shape
            seen = (shared["losses"], tokens["intermediates"])
            return value(losses.Requests(axes), seen)[1], shared

        return blocks.accumulated(
            block, like, (shared, given), (trunk.tokens, trunk.constants)
        )

    def _tileable(self, params: Tree, given: Tree, trunk: Trunk) -> bool:
        """Whether every term can be had from sums, and every head by tiles."""
        lesson = trunk.lesson
        if not trunk.head.tileable or (
            lesson is not None
            and lesson.tiles is not None
            and not lesson.tiles.fit(trunk.head.num_outputs, trunk.head.shards)
        ):
            return False

        def asked(shared: Tree, given: Tree, tokens: Tree, constants: Tree) -> Tree:
            value = self._value(trunk, given, constants)
            axes = constants["batch"]["targets"].shape
            seen = (shared["losses"], tokens["intermediates"])
            return value(losses.Requests(axes), seen)

        try:
            jax.eval_shape(
                asked,
                _read(params, trunk),
                _with_lesson(given, trunk),
                trunk.tokens,
                trunk.constants,
            )
        except losses.NeedsRows:
            return False
        return True

    def _value(self, trunk: Trunk, given: Tree, constants: Tree) -> tiles.Value:
        """The terms over sums, and over what the losses own and read besides."""

        def value(sums: Any, seen: Tree) -> tuple[jax.Array, Tree]:
            owned, intermediates = seen
            lesson, teacher, width = trunk.lesson, None, None
            if lesson is not None:
                outputs = lesson.outputs
                if lesson.tiles is not None:
                    outputs, width = lesson.tiles.outputs, lesson.tiles.width
                teacher = outputs(
                    given["lesson"], constants["teacher"], constants["batch"]
                )
            reduced = losses.Reduced(
                sums=sums,
                vocabulary=trunk.head.num_outputs,
                teacher_width=width,
                **self._common(given, intermediates, constants, teacher),
            )
            return self._total({"losses": owned}, given, constants, reduced)

        return value

    def _total(
        self, shared: Tree, given: Tree, constants: Tree, outputs: losses.Outputs
    ) -> tuple[jax.Array, Tree]:
        """`Σ_i w_i / N_i Σ mask·value` over a block, and the sums to be logged."""
        found = losses.per_token(
            self._live(shared, given, self.terms),
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

    def _whole(
        self,
        trunk: Trunk,
        shared: Tree,
        given: Tree,
        tokens: Tree,
        constants: Tree,
        *,
        logits: bool,
    ) -> losses.Outputs:
        """One block with whole rows; hidden states that none counts are zero."""
        counted = _counted(constants)
        made = jnp.zeros((*counted.shape[:-1], 0))
        if logits:
            hidden = jnp.where(counted, tokens["hidden"], 0)
            student = given["variables"]["student"]
            made = trunk.head(shared["head"], student, hidden)
            least = self._least(given)
            made = made if least is None else filtered(made, least)
        teacher = None
        if trunk.lesson is not None:
            teacher = trunk.lesson.outputs(
                given["lesson"], constants["teacher"], constants["batch"]
            )
        return losses.Outputs(
            logits=made,
            **self._common(given, tokens["intermediates"], constants, teacher),
        )

    def _least(self, given: Tree) -> jax.Array | None:
        """What the gradient of a logit must reach, or None where all of it counts."""
        if not self._gradient_filter:
            return None
        scales = [jnp.abs(scale) for scale in given["scales"].values()]
        return self._gradient_filter * functools.reduce(jnp.add, scales)

    def _common(
        self,
        given: Tree,
        intermediates: Tree,
        constants: Tree,
        teacher: losses.TeacherOutputs | None,
    ) -> dict[str, Any]:
        """What losses see besides logits."""
        return {
            "batch": constants["batch"],
            "intermediates": {**intermediates, **constants["intermediates"]},
            "teacher": jax.lax.stop_gradient(teacher),
            "step": given["step"],
            "key": jax.random.fold_in(jax.random.key(self._seed), given["step"]),
        }

    def _live(
        self, shared: Tree, given: Tree, terms: Sequence[losses.LossTerm]
    ) -> list[losses.LossTerm]:
        """`terms` with the arrays that they own."""
        names = {term.name for term in terms}
        whole = self._learnt.terms(shared["losses"], given["variables"]["losses"])
        return [term for term in whole if term.name in names]


def _read(params: Tree, trunk: Trunk) -> Tree:
    """What every block reads, and is differentiated in."""
    return {"head": trunk.head.leaves(params["student"]), "losses": params["losses"]}


def _with_lesson(given: Tree, trunk: Trunk) -> Tree:
    """With what the blocks read of the teacher's head."""
    return given | {"lesson": {} if trunk.lesson is None else trunk.lesson.shared}


def _counted(constants: Tree) -> jax.Array:
    """Tokens that any term counts, bool `[*b 1]`."""
    return functools.reduce(jnp.logical_or, constants["masks"].values())[..., None]


def _teacher_tiles(
    trunk: Trunk, given: Tree, constants: Tree
) -> Callable[[VocabularyCut, Any, int], jax.Array] | None:
    """The teacher's logits of a block, by tiles, if it is a model that can."""
    lesson = trunk.lesson
    if lesson is None or lesson.tiles is None:
        return None
    make, counted = lesson.tiles.logits, _counted(constants)

    def tile(cut: VocabularyCut, start: Any, width: int) -> jax.Array:
        logits = make(given["lesson"], constants["teacher"], cut, start, width)
        return jax.lax.stop_gradient(jnp.where(counted, logits, 0.0))

    return tile


def _added(total: Tree, more: Tree) -> Tree:
    return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, more)
