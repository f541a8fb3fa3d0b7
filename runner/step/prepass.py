"""Pre-pass: batch statistics and per-token values needed before the gradient pass.

Statistics, values and gradient inner products of the global batch cost one more pass
of the head each, and of the trunk over every microbatch where there are several. Only
those that a term, balance or reweighting asks for are computed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from losses import LossTerm, Reweighting
from losses.core.batch_weights import BalanceInputs, BatchValues
from losses.core.term_values import Statistics, batch_statistics
from losses.core.terms import Item
from losses.weighting.weights import balances
from runner.step.arrays import StepInputs, Tokens
from runner.step.head_values import HeadValues
from runner.step.trunk_pass import StudentTrunk

Tree = Any
RunTrunk = Callable[[Tokens], StudentTrunk]
OverMicrobatches = Callable[[Callable[[Tokens], Tree], Tokens], Tree]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrePassResult:
    """Everything a gradient pass needs besides the weights of the terms.

    Attributes:
      tokens: the global batch, with the token weights of reweightings.
      token_weights: by term, their mean over the tokens that it counts.
      inputs: with statistics.
      memory: by term, what reweightings remember from now on.
      balance_inputs: arguments of the balances.
    """

    tokens: Tokens
    token_weights: Mapping[str, Float[Array, "*b"]]
    inputs: StepInputs
    memory: Tree
    balance_inputs: BalanceInputs


class PrePass:
    """The passes that a list of terms asks for.

    Args:
      items: terms and groups.
      head_values: the passes over the outputs of one trunk.
      accumulate: sums a function over microbatches.
      collect: joins a function, per token, over microbatches.
    """

    def __init__(
        self,
        items: Sequence[Item],
        head_values: HeadValues,
        *,
        accumulate: OverMicrobatches,
        collect: OverMicrobatches,
    ):
        self._head_values = head_values
        self._accumulate, self._collect = accumulate, collect
        self._balance_wants = {b.wants for b in balances(items).values()}
        self._reweightings = {
            term.name: term.token_weight
            for term in head_values.terms
            if isinstance(term.token_weight, Reweighting)
        }

    @property
    def passes(self) -> dict[str, bool]:
        """By pass, whether some term, balance or reweighting asks for it."""
        return {
            "statistics": bool(self._head_values.statistical),
            "values": "values" in self._balance_wants
            or any(r.wants_values for r in self._reweightings.values()),
            "gradients": "gradients" in self._balance_wants,
            "parameter gradients": "parameter gradients" in self._balance_wants,
        }

    def __call__(
        self,
        params: Tree,
        inputs: StepInputs,
        tokens: Tokens,
        memory: Tree,
        run_trunk: RunTrunk,
    ) -> PrePassResult:
        """Return statistics, token weights and balance inputs of the global batch.

        Args:
          params: as `TrainState.params`.
          inputs: with counts, without statistics.
          tokens: the global batch.
          memory: by term, what reweightings remember.
          run_trunk: the trunks of student and teacher over a microbatch.
        """
        head_values, passes, counts = self._head_values, self.passes, inputs.counts

        # Statistics: means over the global batch that losses ask for.
        if passes["statistics"]:

            def sums_of(terms: Sequence[LossTerm], means: Statistics) -> Statistics:
                known = dataclasses.replace(inputs, statistics=means)
                return self._accumulate(
                    lambda part: head_values.statistics(
                        terms, params, known, run_trunk(part)
                    ),
                    tokens,
                )

            statistics = batch_statistics(head_values.statistical, counts, sums_of)
            known = {**inputs.statistics, **statistics}
            inputs = dataclasses.replace(inputs, statistics=known)

        # Values: per token, for balances and reweightings.
        values: Tree = {}
        if passes["values"]:
            values = self._collect(
                lambda part: head_values.values(params, inputs, run_trunk(part)), tokens
            )

        # Token weights of reweightings.
        weights, memory = self._token_weights(values, tokens, inputs.step, memory)
        tokens = dataclasses.replace(tokens, token_weights=weights)

        # Balance inputs: means of the terms, inner products of their gradients.
        means = inner = None
        if values:
            sums = {
                name: jnp.sum(x.weighted * weights.get(name, 1.0))
                for name, x in values.items()
            }
            means = divide(sums, counts)
        if passes["gradients"]:
            inner = self._accumulate(
                lambda part: head_values.inner_products(
                    params, inputs, run_trunk(part)
                ),
                tokens,
            )
        return PrePassResult(
            tokens=tokens,
            token_weights=divide({n: jnp.sum(w) for n, w in weights.items()}, counts),
            inputs=inputs,
            memory=memory,
            balance_inputs=BalanceInputs(
                step=inputs.step,
                means=means,
                inner=inner,
                names=tuple(term.name for term in head_values.terms),
            ),
        )

    def _token_weights(
        self, values: Tree, tokens: Tokens, step: Int[Array, ""], memory: Tree
    ) -> tuple[dict[str, Float[Array, "*b"]], Tree]:
        """Return, by term, token weights `[*b]`, and the memory of reweightings."""
        weights, memories = {}, {}
        for name, reweighting in self._reweightings.items():
            batch_values = BatchValues(
                values=values[name].values if values else None,
                mask=tokens.masks[name],
                batch=tokens.batch,
                step=step,
            )
            row, memories[name] = reweighting(batch_values, memory[name])
            weights[name] = jnp.where(tokens.masks[name], row, 0.0)
        return weights, memories


def divide(
    sums: Mapping[str, Tree], counts: Mapping[str, Float[Array, ""]]
) -> dict[str, Tree]:
    """Return masked sums by term, divided by the global counts."""
    return {
        name: jax.tree.map(lambda x, n=counts[name]: x / jnp.maximum(n, 1.0), tree)
        for name, tree in sums.items()
    }
