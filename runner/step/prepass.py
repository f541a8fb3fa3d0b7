"""What must be known of a global batch before its gradients.

Statistics, and the values and gradients that balances and reweightings follow: each
costs one more pass of the head, and of the trunk over every microbatch where there are
several. Nothing that no term asks for is computed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import losses
from losses.core.batch_weights import BalanceInputs, BatchValues
from losses.core.terms import Item
from models.base import Batch
from runner.step.head_pass import HeadPass
from runner.step.microbatches import Microbatches
from runner.step.trunk_pass import StudentTrunk

Tree = Any


@dataclasses.dataclass(frozen=True)
class PrePassResult:
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
    seen: BalanceInputs


class PrePass:
    """The passes that a list of terms asks for."""

    def __init__(
        self,
        items: Sequence[Item],
        terms: Sequence[losses.LossTerm],
        head_pass: HeadPass,
    ):
        self._terms, self._head_pass = terms, head_pass
        self._wants = {b.wants for b in losses.balances(items).values()}
        self._reweightings = {
            term.name: term.token_weight
            for term in terms
            if isinstance(term.token_weight, losses.Reweighting)
        }

    @property
    def passes(self) -> dict[str, bool]:
        """What may be wanted of the batch before its gradients, and whether it is."""
        return {
            "statistics": bool(self._head_pass.statistical),
            "values": "values" in self._wants
            or any(r.wants_values for r in self._reweightings.values()),
            "gradients": "gradients" in self._wants,
        }

    def __call__(
        self,
        microbatches: Microbatches,
        params: Tree,
        given: Tree,
        batch: Batch,
        masks: Tree,
        memory: Tree,
    ) -> PrePassResult:
        """Statistics, values and token weights of the global batch.

        given: `variables`, `step` and `counts`; memory: what reweightings remember.
        """
        passes, counts = self.passes, given["counts"]
        sums: Tree = {}

        def reading(read: Callable[[Tree, Tree, StudentTrunk], Tree]) -> Callable:
            return lambda trunk: read(params, known_so_far, trunk)

        known_so_far = given
        if passes["statistics"]:
            sums = microbatches.sums(reading(self._head_pass.statistics))
        known_so_far = given | {"statistics": over(counts, sums)}
        values: Tree = {}
        if passes["values"]:
            values = microbatches.each(reading(self._head_pass.values))
        reweighted, tokens = self._reweighted(values, batch, masks, given, memory)
        means = inner = None
        if values:
            added = {
                name: jnp.sum(x.weighted * reweighted.get(name, 1.0))
                for name, x in values.items()
            }
            means = over(counts, added)
        if passes["gradients"]:
            read = reading(self._head_pass.inner_products)
            inner = microbatches.sums(read, reweighted)
        names = tuple(term.name for term in self._terms)
        return PrePassResult(
            microbatches=microbatches,
            params=params,
            given=known_so_far,
            reweighted=reweighted,
            tokens=tokens,
            seen=BalanceInputs(
                step=given["step"], means=means, inner=inner, names=names
            ),
        )

    def _reweighted(
        self, values: Tree, batch: Batch, masks: Tree, given: Tree, memory: Tree
    ) -> tuple[Tree, Tree]:
        """By term, token weights `[*b]`, and what the reweightings remember."""
        reweighted, tokens = {}, {}
        for name, reweighting in self._reweightings.items():
            spread = BatchValues(
                values=values[name].values if values else None,
                mask=masks[name],
                batch=batch,
                step=given["step"],
            )
            weights, tokens[name] = reweighting(spread, memory[name])
            reweighted[name] = jnp.where(masks[name], weights, 0.0)
        return reweighted, tokens


def over(counts: Mapping[str, jax.Array], sums: Mapping[str, Tree]) -> dict[str, Tree]:
    """Masked sums by term, over the global counts."""
    return {
        name: jax.tree.map(lambda x, n=counts[name]: x / jnp.maximum(n, 1.0), tree)
        for name, tree in sums.items()
    }
