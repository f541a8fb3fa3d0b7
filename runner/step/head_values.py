"""Values of the terms over the outputs of a trunk; nothing is trained by them.

Passes over blocks of tokens with whole rows of logits, before the gradients of a step
(`runner.step.prepass`) or beside them (`runner.evaluation.diagnostics`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses import LossTerm, Outputs, target_mask
from losses.core.term_values import TokenValues, statistic_sums
from runner.head.token_blocks import TokenBlocks
from runner.step.arrays import BlockTokens, StepInputs
from runner.step.block_outputs import BlockEvaluator
from runner.step.head_blocks import Block, HeadBlocks, Shared
from runner.step.requirements import TRUNK, statistical
from runner.step.trunk_pass import StudentTrunk

Tree = Any


class HeadValues:
    """The read-only passes of the head and all terms.

    Attributes:
      terms: in the order of the experiment.
      statistical: those that want means over the global batch first.
    """

    def __init__(self, blocks: HeadBlocks, evaluator: BlockEvaluator):
        self.terms, self.statistical = blocks.terms, statistical(blocks.terms)
        self._blocks, self._evaluator = blocks, evaluator

    def statistics(
        self,
        terms: Sequence[LossTerm],
        params: Tree,
        inputs: StepInputs,
        trunk: StudentTrunk,
    ) -> Tree:
        """Return, by term, the masked sums of its `Loss.statistics`.

        Args:
          terms: some of `statistical`.
          params: as `TrainState.params`.
          inputs: with the means of the pass before, if there was one.
          trunk: of these tokens.
        """
        names = {term.name for term in terms}
        logits = any("logits" in term.loss.needs for term in terms)

        def sums(shared: Shared, block: Block) -> Tree:
            outputs = self._evaluator.full_outputs(
                trunk, *shared, *block, logits=logits
            )
            return statistic_sums(
                [t for t in self._evaluator.terms(*shared) if t.name in names],
                outputs,
                masks=block[1].masks,
                statistics=shared[1].statistics,
            )

        return self._cut(trunk).sum(sums, *self._detached(params, inputs, trunk))

    def values(self, params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> Tree:
        """Return, by term, `TokenValues` of all tokens, `[*b]`."""

        def values(shared: Shared, block: Block) -> dict[str, TokenValues]:
            return self._block_values(trunk, shared, block)

        return self._cut(trunk).map(values, *self._detached(params, inputs, trunk))

    def inner_products(
        self, params: Tree, inputs: StepInputs, trunk: StudentTrunk
    ) -> Float[Array, "term term"]:
        """Return `Σ_tokens ∂L_i · ∂L_j`, `[term term]`, L being means over the batch.

        The gradients are those in `trunk.tokens`, one term at a time.
        """
        names = [term.name for term in self.terms]
        blocks = self._cut(trunk)

        def products(shared: Shared, block: Block) -> Float[Array, "term term"]:
            tokens, constants = block

            # The means of the terms, as a function of the trunk outputs alone.
            def means(tokens: BlockTokens) -> Float[Array, " term"]:
                values = self._block_values(trunk, shared, (tokens, constants))
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
            gradients = _joined(jax.lax.map(lambda term: pullback(term)[0], one_hot))
            flat = [
                x.reshape((len(names), -1)).astype(jnp.float32)
                for x in jax.tree.leaves(gradients)
            ]
            return functools.reduce(jnp.add, [x @ x.T for x in flat])

        return blocks.sum(products, *self._detached(params, inputs, trunk))

    def measure(
        self,
        params: Tree,
        inputs: StepInputs,
        trunk: StudentTrunk,
        metric_sums: Callable[[Outputs], Tree],
    ) -> Tree:
        """Return `Σ_blocks metric_sums(outputs)` over all targets, counted or not."""

        def sums(shared: Shared, block: Block) -> Tree:
            return metric_sums(self._outputs_of_targets(trunk, shared, block))

        return self._cut(trunk).sum(sums, *self._detached(params, inputs, trunk))

    def evaluate(
        self,
        params: Tree,
        inputs: StepInputs,
        trunk: StudentTrunk,
        metric_sums: Callable[[Outputs, Mapping[str, Bool[Array, "*b"]]], Tree],
    ) -> tuple[dict[str, Float[Array, ""]], Tree]:
        """Return the terms' sums by name, and `Σ_blocks metric_sums(outputs, masks)`.

        Values are unweighted, masks those of the terms.
        """

        def sums(shared: Shared, block: Block) -> Tree:
            outputs = self._outputs_of_targets(trunk, shared, block)
            values = self._evaluator.values(*shared, block[1], outputs)
            return (
                {name: jnp.sum(x.values) for name, x in values.items()},
                metric_sums(outputs, block[1].masks),
            )

        return self._cut(trunk).sum(sums, *self._detached(params, inputs, trunk))

    def _outputs_of_targets(
        self, trunk: StudentTrunk, shared: Shared, block: Block
    ) -> Outputs:
        """Return a block with logits of all its targets, whatever the terms count."""
        _, constants = block
        masks = [target_mask(constants.batch), *constants.masks.values()]
        masks += [reads(constants.batch) for reads in self._evaluator.reads]
        counted = functools.reduce(jnp.logical_or, masks)[..., None]
        return self._evaluator.full_outputs(
            trunk, *shared, *block, logits=True, counted=counted
        )

    def _block_values(
        self, trunk: StudentTrunk, shared: Shared, block: Block
    ) -> dict[str, TokenValues]:
        outputs = self._evaluator.full_outputs(
            trunk, *shared, *block, logits=self._blocks.reads_logits
        )
        return self._evaluator.values(*shared, block[1], outputs)

    def _cut(self, trunk: StudentTrunk) -> TokenBlocks:
        """Return blocks of whole rows of logits."""
        return self._blocks.cut(trunk, self._blocks.plan(trunk, tileable=False))

    def _detached(
        self, params: Tree, inputs: StepInputs, trunk: StudentTrunk
    ) -> tuple[Shared, Block]:
        """Return what blocks share, and what is cut into them, without gradients."""
        tokens = jax.lax.stop_gradient(trunk.tokens)
        return self._blocks.shared(params, inputs, trunk), (tokens, trunk.constants)


def _joined(gradients: BlockTokens) -> BlockTokens:
    """Return them with those of `"trunk"` added to `hidden`: they are one array."""
    others = dict(gradients.intermediates)
    if TRUNK not in others:
        return gradients
    return BlockTokens(
        hidden=gradients.hidden + others.pop(TRUNK), intermediates=others
    )
