"""The head and all terms of a microbatch, forward and backward, on each device.

Each block of tokens runs head forward, all terms, head backward: three matmuls, as in
the textbook. Terms that need only sums over the vocabulary are computed from these
(`runner.head.vocab_tiles`); any others see whole rows, and are differentiated as they
stand. Values and gradients are the same.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses import Loss, LossTerm, NeedsFullLogits, Reweighting
from losses.core.vocab_sums import SumRequests
from runner.head import vocab_tiles
from runner.head.plan import HeadPlan
from runner.head.token_blocks import add_trees
from runner.head.vocab_partition import VocabPartition
from runner.step.arrays import (
    BlockConstants,
    BlockTokens,
    HeadParams,
    StepInputs,
    TermSums,
)
from runner.step.block_outputs import BlockEvaluator, weighted_total
from runner.step.head_blocks import Block, HeadBlocks, Shared
from runner.step.trunk_pass import StudentTrunk

Tree = Any
Sums = tuple[TermSums, HeadParams]


class HeadGradients:
    """The gradients of all terms in the head and in the outputs of a trunk."""

    def __init__(self, blocks: HeadBlocks, evaluator: BlockEvaluator):
        self._blocks, self._evaluator = blocks, evaluator

    def __call__(
        self, params: Tree, inputs: StepInputs, trunk: StudentTrunk
    ) -> tuple[TermSums, HeadParams, BlockTokens]:
        """Return the sums of the terms, and the gradients of their weighted total.

        Returns:
          `(sums, d_params, d_tokens)`: gradients of what every block reads, and of
          `trunk.tokens`.
        """
        plan = self.plan(params, inputs, trunk)
        run = self._tiled if plan.by_sums else self._rows
        shared = self._blocks.shared(params, inputs, trunk)
        (sums, d_params), d_tokens = run(plan, trunk, shared)
        return sums, d_params, d_tokens

    def plan(self, params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> HeadPlan:
        """Return how the head of this trunk is cut: a function of shapes alone."""
        tileable = self._tileable(params, inputs, trunk)
        return self._blocks.plan(trunk, tileable=tileable)

    def _rows(
        self, plan: HeadPlan, trunk: StudentTrunk, shared: Shared
    ) -> tuple[Sums, BlockTokens]:
        """Differentiate the terms of whole rows, as they stand."""
        logits = self._blocks.reads_logits

        def total(
            params: HeadParams,
            tokens: BlockTokens,
            inputs: StepInputs,
            constants: BlockConstants,
        ) -> tuple[Float[Array, ""], TermSums]:
            outputs = self._evaluator.full_outputs(
                trunk, params, inputs, tokens, constants, logits=logits
            )
            values = self._evaluator.values(params, inputs, constants, outputs)
            return weighted_total(values, inputs)

        def add(shared: Shared, sums: Sums, block: Block) -> tuple[Sums, BlockTokens]:
            (params, inputs), (tokens, constants) = shared, block
            # Plain autodiff: a block keeps its logits and whatever the losses make.
            (d_params, d_tokens), terms = jax.grad(total, argnums=(0, 1), has_aux=True)(
                params, tokens, inputs, constants
            )
            return add_trees(sums, (terms, d_params)), d_tokens

        return self._blocks.cut(trunk, plan).accumulate(
            add, self._sums_like(shared), shared, (trunk.tokens, trunk.constants)
        )

    def _tiled(
        self, plan: HeadPlan, trunk: StudentTrunk, shared: Shared
    ) -> tuple[Sums, BlockTokens]:
        """Differentiate the terms of sums over the vocabulary, tile by tile."""
        head, shards = self._blocks.head, self._blocks.vocab_shards
        partition = VocabPartition.of(
            head.num_outputs, shards=shards, entries=plan.entries * shards
        )
        blocks = self._blocks.cut(trunk, plan)

        def add(shared: Shared, sums: Sums, block: Block) -> tuple[Sums, BlockTokens]:
            (terms, d_params), (params, inputs), (tokens, constants) = (
                sums,
                shared,
                block,
            )
            tiled = self._evaluator.tiled(trunk, inputs, constants)
            # Hidden states of tokens that no term counts are zero: they may hold NaN.
            hidden = jnp.where(tiled.counted, tokens.hidden, 0).astype(jnp.float32)

            d_head, d_hidden, (d_losses, d_intermediates), more = vocab_tiles.gradients(
                vocab_tiles.VocabTiles(
                    head=head,
                    variables=inputs.variables["student"],
                    partition=partition,
                    teacher=tiled.teacher_logits,
                    counted=tiled.counted,
                ),
                tiled.total,
                params=params.head,
                hidden=hidden,
                others=(params.losses, tokens.intermediates),
                d_params=d_params.head,
                store_logits=plan.mode != "lean",
                threshold=tiled.threshold,
                varying=blocks.varying,
            )

            terms, d_losses = add_trees((terms, d_params.losses), (more, d_losses))
            d_hidden = jnp.where(tiled.counted, d_hidden, 0).astype(tokens.hidden.dtype)
            return (
                (terms, HeadParams(head=d_head, losses=d_losses)),
                BlockTokens(hidden=d_hidden, intermediates=d_intermediates),
            )

        return blocks.accumulate(
            add, self._sums_like(shared), shared, (trunk.tokens, trunk.constants)
        )

    def _sums_like(self, shared: Shared) -> Sums:
        """Return arrays of the shapes of the sums over blocks."""
        sums = {term.name: jnp.zeros(()) for term in self._blocks.terms}
        return TermSums(values=sums, weighted=dict(sums)), shared[0]

    def _tileable(self, params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> bool:
        """Return true if every term has a tiled form, and every head can be cut."""
        head, teacher = self._blocks.head, trunk.teacher
        if not self._blocks.reads_logits or not head.tileable:
            return False
        teacher_tiles = None if teacher is None else teacher.tiles
        if teacher_tiles and not teacher_tiles.fit(
            head.num_outputs, self._blocks.vocab_shards
        ):
            return False

        # What all losses declare need not be traced.
        if all(_declares_tiles(term) for term in self._blocks.terms):
            return True

        # Ask the losses themselves: one that wants whole rows says so.
        def total(shared: Shared, block: Block) -> Tree:
            (params, inputs), (tokens, constants) = shared, block
            tiled = self._evaluator.tiled(trunk, inputs, constants)
            sums = SumRequests(constants.batch["targets"].shape)
            return tiled.total(sums, (params.losses, tokens.intermediates))

        shared = self._blocks.shared(params, inputs, trunk)
        try:
            jax.eval_shape(total, shared, (trunk.tokens, trunk.constants))
        except NeedsFullLogits:
            return False
        return True


def _declares_tiles(term: LossTerm) -> bool:
    """Return true if neither the loss nor its token weights read rows of logits."""
    assert isinstance(term.loss, Loss)  # built, if it owns parameters
    weighted = not isinstance(term.token_weight, Reweighting | None)
    return bool(term.loss.tiled) and not weighted
