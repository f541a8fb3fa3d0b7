"""The head and all terms of a microbatch, forward and backward, on each device.

`runner.head.plan` bounds how much of the logits exists at once. Each block of tokens
runs head forward, all terms, head backward: three matmuls, as in the textbook. Terms
that need only sums over the vocabulary are computed from these
(`runner.head.vocab_tiles`); any others see whole rows, and are differentiated as they
stand. Values and gradients are the same.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from losses import LossTerm, NeedsFullLogits, Outputs, OwnHead
from losses.core.term_values import TokenValues, statistic_sums
from losses.core.vocab_sums_pass import SumRequests
from runner import runtime
from runner.head import plan as head_plan
from runner.head import vocab_tiles
from runner.head.plan import HeadPlan
from runner.head.token_blocks import TokenBlocks, add_trees, zeros_like
from runner.head.vocab_partition import VocabPartition
from runner.machine.mesh import batch_shards
from runner.state.trainable import TrainModules
from runner.step.arrays import (
    BlockConstants,
    BlockTokens,
    HeadParams,
    StepInputs,
    TermSums,
)
from runner.step.block_outputs import (
    BlockEvaluator,
    counted_by_any,
    teacher_logit_tiles,
    weighted_total,
)
from runner.step.requirements import scopes, statistical
from runner.step.trunk_pass import StudentTrunk

Tree = Any
Block = tuple[BlockTokens, BlockConstants]
Shared = tuple[HeadParams, StepInputs]


class HeadPass:
    """The terms over the outputs of a trunk.

    Attributes:
      terms: in the order of the experiment.
      statistical: those that want means over the global batch first.
    """

    def __init__(
        self,
        modules: TrainModules,
        terms: Sequence[LossTerm],
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Head,
        seed: int,
        gradient_filter: float = 0.0,
    ):
        self.terms, self.statistical = terms, statistical(terms)
        self._mesh, self._config = mesh, config
        self._logits = any("logits" in term.needs for term in terms)
        self._evaluator = BlockEvaluator(modules, seed, gradient_filter)

    def gradients(
        self, params: Tree, inputs: StepInputs, trunk: StudentTrunk
    ) -> tuple[TermSums, HeadParams, BlockTokens]:
        """Return the sums of the terms, and the gradients of their weighted total.

        Returns:
          `(sums, d_params, d_tokens)`: gradients of what every block reads, and of
          `trunk.tokens`.
        """
        plan = self.plan(params, inputs, trunk)
        run = self._tiled_gradients if plan.by_sums else self._row_gradients
        (sums, d_params), d_tokens = run(plan, trunk, *_shared(params, inputs, trunk))
        return sums, d_params, d_tokens

    def statistics(self, params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> Tree:
        """Return, by term, the masked sums of its `Loss.statistics`."""
        if not self.statistical:
            return {}
        names = {term.name for term in self.statistical}
        logits = any("logits" in term.loss.needs for term in self.statistical)

        def sums(shared: Shared, block: Block) -> Tree:
            outputs = self._evaluator.full_outputs(
                trunk, *shared, *block, logits=logits
            )
            terms = [t for t in self._evaluator.terms(*shared) if t.name in names]
            return statistic_sums(terms, outputs, masks=block[1].masks)

        return self._row_blocks(params, inputs, trunk).sum(
            sums, *_detached(params, inputs, trunk)
        )

    def measure(
        self,
        params: Tree,
        inputs: StepInputs,
        trunk: StudentTrunk,
        metric_sums: Callable[[Outputs], Tree],
    ) -> Tree:
        """Return `Σ_blocks metric_sums(outputs)`; nothing is differentiated."""

        def sums(shared: Shared, block: Block) -> Tree:
            return metric_sums(
                self._evaluator.full_outputs(trunk, *shared, *block, logits=True)
            )

        return self._row_blocks(params, inputs, trunk).sum(
            sums, *_detached(params, inputs, trunk)
        )

    def values(self, params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> Tree:
        """Return, by term, `TokenValues` of all tokens, `[*b]`."""

        def values(shared: Shared, block: Block) -> dict[str, TokenValues]:
            return self._values(trunk, shared, block)

        return self._row_blocks(params, inputs, trunk).map(
            values, *_detached(params, inputs, trunk)
        )

    def inner_products(
        self, params: Tree, inputs: StepInputs, trunk: StudentTrunk
    ) -> jax.Array:
        """Return `Σ_tokens ∂L_i · ∂L_j`, `[term term]`, L being means over the batch.

        The gradients are those in `trunk.tokens`, one term at a time.
        """
        names = [term.name for term in self.terms]
        blocks = self._row_blocks(params, inputs, trunk)

        def products(shared: Shared, block: Block) -> jax.Array:
            tokens, constants = block

            # The means of the terms, as a function of the trunk outputs alone.
            def means(tokens: BlockTokens) -> jax.Array:
                values = self._values(trunk, shared, (tokens, constants))
                counts = shared[1].counts
                return jnp.stack(
                    [
                        jnp.sum(values[name].weighted) / jnp.maximum(counts[name], 1.0)
                        for name in names
                    ]
                )

            # One backward pass a term, then the products leaf by leaf.
            _, pullback = jax.vjp(means, tokens)
            one_hot = blocks.varying(jnp.eye(len(names)))
            gradients = jax.lax.map(lambda term: pullback(term)[0], one_hot)
            flat = [
                x.reshape((len(names), -1)).astype(jnp.float32)
                for x in jax.tree.leaves(gradients)
            ]
            return functools.reduce(jnp.add, [x @ x.T for x in flat])

        return blocks.sum(products, *_detached(params, inputs, trunk))

    def _values(
        self, trunk: StudentTrunk, shared: Shared, block: Block
    ) -> dict[str, TokenValues]:
        outputs = self._evaluator.full_outputs(
            trunk, *shared, *block, logits=self._logits
        )
        return self._evaluator.values(*shared, block[1], outputs)

    def plan(
        self,
        params: Tree,
        inputs: StepInputs,
        trunk: StudentTrunk,
        *,
        full_rows: bool = False,
    ) -> HeadPlan:
        """Return how the head of this trunk is cut: a function of shapes alone.

        Args:
          params: as `TrainState.params`.
          inputs: what every block reads besides.
          trunk: the microbatch after its trunk.
          full_rows: whole rows of logits are wanted, whatever the terms can do.
        """
        axes = trunk.token_axes
        tokens = math.ceil(math.prod(axes) / batch_shards(self._mesh))
        together = {"token": 1, "sequence": math.prod(axes[1:]), "batch": tokens}
        teacher_logits = trunk.teacher is not None and trunk.teacher.full_logits
        cost = head_plan.HeadCost(
            sides=1
            + teacher_logits
            + sum(isinstance(term.loss, OwnHead) for term in self.terms),
            tileable=not full_rows and self._tileable(params, inputs, trunk),
            linear=trunk.head.is_linear,
            together=max(together[scope] for scope in scopes(self.terms)),
        )
        entries = trunk.head.num_outputs // trunk.head.shards
        return head_plan.choose(self._config, cost, tokens=tokens, entries=entries)

    def _blocks(self, trunk: StudentTrunk, plan: HeadPlan) -> TokenBlocks:
        return TokenBlocks(
            mesh=self._mesh,
            token_axes=trunk.token_axes,
            size=plan.tokens,
            whole_rows=scopes(self.terms) != {"token"},
        )

    def _row_blocks(
        self, params: Tree, inputs: StepInputs, trunk: StudentTrunk
    ) -> TokenBlocks:
        return self._blocks(trunk, self.plan(params, inputs, trunk, full_rows=True))

    def _row_gradients(
        self,
        plan: HeadPlan,
        trunk: StudentTrunk,
        params: HeadParams,
        inputs: StepInputs,
    ) -> tuple[tuple[TermSums, HeadParams], BlockTokens]:
        """Differentiate the terms of whole rows, as they stand."""

        def total(
            params: HeadParams,
            tokens: BlockTokens,
            inputs: StepInputs,
            constants: BlockConstants,
        ) -> tuple[jax.Array, TermSums]:
            outputs = self._evaluator.full_outputs(
                trunk, params, inputs, tokens, constants, logits=self._logits
            )
            values = self._evaluator.values(params, inputs, constants, outputs)
            return weighted_total(values, inputs)

        def add(
            shared: Shared, sums: tuple[TermSums, HeadParams], block: Block
        ) -> tuple[tuple[TermSums, HeadParams], BlockTokens]:
            (params, inputs), (tokens, constants) = shared, block
            (d_params, d_tokens), terms = jax.grad(total, argnums=(0, 1), has_aux=True)(
                params, tokens, inputs, constants
            )
            return add_trees(sums, (terms, d_params)), d_tokens

        return self._blocks(trunk, plan).accumulate(
            add,
            self._zeros(params),
            (params, inputs),
            (trunk.tokens, trunk.constants),
        )

    def _tiled_gradients(
        self,
        plan: HeadPlan,
        trunk: StudentTrunk,
        params: HeadParams,
        inputs: StepInputs,
    ) -> tuple[tuple[TermSums, HeadParams], BlockTokens]:
        """Differentiate the terms of sums over the vocabulary, tile by tile."""
        partition = VocabPartition.of(
            trunk.head.num_outputs,
            shards=trunk.head.shards,
            entries=plan.entries * trunk.head.shards,
        )
        blocks = self._blocks(trunk, plan)

        def add(
            shared: Shared, sums: tuple[TermSums, HeadParams], block: Block
        ) -> tuple[tuple[TermSums, HeadParams], BlockTokens]:
            (terms, d_params), (params, inputs) = sums, shared
            tokens, constants = block
            # Hidden states of tokens that no term counts are zero: they may hold NaN.
            counted = counted_by_any(constants)
            hidden = jnp.where(counted, tokens.hidden, 0).astype(jnp.float32)

            d_head, d_hidden, (d_losses, d_intermediates), more = vocab_tiles.gradients(
                vocab_tiles.VocabTiles(
                    head=trunk.head,
                    variables=inputs.variables["student"],
                    partition=partition,
                    teacher=teacher_logit_tiles(trunk, inputs, constants),
                ),
                self._evaluator.tiled_total(trunk, inputs, constants),
                params=params.head,
                hidden=hidden,
                others=(params.losses, tokens.intermediates),
                d_params=d_params.head,
                store_logits=plan.mode != "lean",
                threshold=self._evaluator.gradient_threshold(inputs),
                varying=blocks.varying,
            )

            d_losses = add_trees(d_params.losses, d_losses)
            d_hidden = jnp.where(counted, d_hidden, 0).astype(tokens.hidden.dtype)
            return (
                (add_trees(terms, more), HeadParams(head=d_head, losses=d_losses)),
                BlockTokens(hidden=d_hidden, intermediates=d_intermediates),
            )

        return blocks.accumulate(
            add,
            self._zeros(params),
            (params, inputs),
            (trunk.tokens, trunk.constants),
        )

    def _zeros(self, params: HeadParams) -> tuple[TermSums, HeadParams]:
        sums = {term.name: jnp.zeros(()) for term in self.terms}
        return TermSums(values=sums, weighted=dict(sums)), zeros_like(params)

    def _tileable(self, params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> bool:
        """Return true if every term has a tiled form, and every head can be cut."""
        head, teacher = trunk.head, trunk.teacher
        if not self._logits or not head.tileable:
            return False
        teacher_tiles = None if teacher is None else teacher.tiles
        if teacher_tiles and not teacher_tiles.fit(head.num_outputs, head.shards):
            return False

        # Ask the losses themselves: one that wants whole rows says so.
        def total(shared: Shared, block: Block) -> Tree:
            (params, inputs), (tokens, constants) = shared, block
            tiled_total = self._evaluator.tiled_total(trunk, inputs, constants)
            sums = SumRequests(constants.batch["targets"].shape)
            return tiled_total(sums, (params.losses, tokens.intermediates))

        try:
            jax.eval_shape(
                total, _shared(params, inputs, trunk), (trunk.tokens, trunk.constants)
            )
        except NeedsFullLogits:
            return False
        return True


def _shared(params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> Shared:
    """Return what every block reads: differentiated, and not."""
    head_params = HeadParams(
        head=trunk.head.leaves(params["student"]), losses=params["losses"]
    )
    if trunk.teacher is None:
        return head_params, inputs
    return head_params, inputs.with_teacher_head(trunk.teacher.head_params)


def _detached(
    params: Tree, inputs: StepInputs, trunk: StudentTrunk
) -> tuple[Shared, Block]:
    """Return what blocks share and what is cut into them, with gradients stopped."""
    tokens = jax.lax.stop_gradient(trunk.tokens)
    return _shared(params, inputs, trunk), (tokens, trunk.constants)
