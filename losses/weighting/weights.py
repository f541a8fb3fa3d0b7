"""Weights of terms and groups at a step.

A weight is a number, a function of the optimiser step, or a `Balance`: a function of
the terms' values or gradients on the global batch, gradients stopped. A balance reads
values, never other weights; that of a group is computed after those in it. So the order
of the list changes nothing, and neither do microbatches, blocks and devices.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.core.batch_weights import Balance, BalanceInputs, Combination, times
from losses.core.outputs import IncompatibleLoss
from losses.core.terms import Item, LossTerm, all_items, flat_terms

Tree = Any


@dataclasses.dataclass(frozen=True)
class TermWeights:
    """Weights of all terms and groups at a step.

    Attributes:
      weights: by term and group, its own.
      effective: by term, its own times those of the groups around it.
      penalty: added to the objective besides the terms.
      memory: by term and group, the memory of its balance.
      balanced: by the same names, what each balance weighs, before its weight.
    """

    weights: Mapping[str, Float[Array, ""]]
    effective: Mapping[str, Float[Array, ""]]
    penalty: Float[Array, ""]
    memory: Tree
    balanced: Mapping[str, Combination]


jax.tree_util.register_dataclass(
    TermWeights,
    data_fields=["weights", "effective", "penalty", "memory", "balanced"],
    meta_fields=[],
)


def balances(items: Sequence[Item]) -> dict[str, Balance]:
    """Return, by term and group, the weights that are balances."""
    return {
        item.name: item.weight
        for item in all_items(items)
        if isinstance(item.weight, Balance)
    }


def may_vanish(items: Sequence[Item]) -> frozenset[str]:
    """Return the terms whose effective weight may be 0 at some step.

    Those are all but the ones that nothing but numbers other than 0 weighs.
    """
    names = set()
    for item in items:
        varies = callable(item.weight) or isinstance(item.weight, Balance)
        inner = [item] if isinstance(item, LossTerm) else flat_terms(item.terms)
        if varies or not item.weight:
            names |= {term.name for term in inner}
        elif not isinstance(item, LossTerm):
            names |= may_vanish(item.terms)
    return frozenset(names)


def term_weights(
    items: Sequence[Item], inputs: BalanceInputs, params: Tree, memory: Tree
) -> TermWeights:
    """Return the weights of all terms and groups.

    Args:
      items: terms and groups.
      inputs: of the balances.
      params: of the balances, by the names of `balances`.
      memory: of the balances, by the same names.
    """
    inputs = jax.lax.stop_gradient(inputs)
    weights: dict[str, Float[Array, ""]] = {}
    new_memory: Tree = {}
    balanced: dict[str, Combination] = {}
    penalties = [jnp.float32(0.0)]

    def factors(item: Item) -> dict[str, Float[Array, ""]]:
        """Return the factor of each term of an item, the item's weight included."""
        # A group's weight comes after those in it, which its balance reads.
        own = {item.name: jnp.float32(1.0)}
        if not isinstance(item, LossTerm):
            own = {n: c for inner in item.terms for n, c in factors(inner).items()}
        name, weight = item.name, item.weight
        if isinstance(weight, Balance):
            balanced[name] = jax.lax.stop_gradient(own)
            weights[name], new_memory[name] = weight(
                balanced[name], inputs, params[name], memory[name]
            )
            penalties.append(weight.penalty(params[name]))
        else:
            weights[name] = weight_at_step(weight, inputs.step, name)
        return {term: c * weights[name] for term, c in own.items()}

    # `factors` fills the dicts above too.
    effective = {n: c for item in items for n, c in factors(item).items()}
    return TermWeights(
        weights=weights,
        effective=effective,
        penalty=functools.reduce(jnp.add, penalties),
        memory=new_memory,
        balanced=balanced,
    )


def skipped_batches(
    items: Sequence[Item], weights: TermWeights, inputs: BalanceInputs
) -> dict[str, Bool[Array, ""]]:
    """Return, by the names of `balances`, whether each skips the batch of `inputs`."""
    return {
        name: balance.skips(weights.balanced[name], inputs)
        for name, balance in balances(items).items()
    }


def weight_at_step(
    weight: Any, step: Int[Array, ""], name: str = "term"
) -> Float[Array, ""]:
    """Return a number, or a schedule at an optimiser step, as float32.

    Raises:
      IncompatibleLoss: the schedule of the term or group `name` gives no number.
    """
    if not callable(weight):
        return jnp.float32(weight)
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix dtypes
        value = jnp.asarray(weight(step))
    kinds = (jnp.floating, jnp.integer)
    if value.shape or not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
        raise IncompatibleLoss(
            f"weight of {name!r} must give one number a step, got {value.dtype} "
            f"{list(value.shape)}"
        )
    return value.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class TermReport:
    """Value and contribution of a term or group at a step.

    Attributes:
      value: before its own weight.
      contribution: to the objective, every weight included.
      share: the contribution over the sum of the magnitudes of those of the outermost
        terms and groups; signed.
    """

    value: Float[Array, ""]
    contribution: Float[Array, ""]
    share: Float[Array, ""]


def term_reports(
    items: Sequence[Item], weights: TermWeights, means: Mapping[str, Float[Array, ""]]
) -> dict[str, TermReport]:
    """Return reports by term and group; `means` as in `BalanceInputs`."""
    # Values and contributions, a group's from those of its items.
    values: dict[str, Float[Array, ""]] = {}
    contributions: dict[str, Float[Array, ""]] = {}

    def add(item: Item) -> None:
        if isinstance(item, LossTerm):
            values[item.name] = means[item.name]
            weight, mean = weights.effective[item.name], means[item.name]
            contributions[item.name] = jnp.where(weight == 0.0, 0.0, weight * mean)
            return
        for inner in item.terms:
            add(inner)
        values[item.name] = sum(
            (times(weights.weights[x.name], values[x.name]) for x in item.terms),
            jnp.float32(0.0),
        )
        contributions[item.name] = sum(
            (contributions[x.name] for x in item.terms), jnp.float32(0.0)
        )

    for item in items:
        add(item)

    # Shares of the outermost items' contributions.
    top = sum((jnp.abs(contributions[item.name]) for item in items), jnp.float32(0.0))
    whole = jnp.where(top > 0.0, top, 1.0)
    return {
        name: TermReport(values[name], contributions[name], contributions[name] / whole)
        for name in weights.weights
    }
