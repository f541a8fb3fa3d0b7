"""What every term and group is multiplied by at a step.

A weight is a number, a function of the optimiser step, or a `Balance`: a function of
what the terms are worth on the whole global batch, gradients stopped. A balance sees
values, never other weights; that of a group comes after those in it. So the order of
the list means nothing, and neither do microbatches, blocks and devices.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from losses.core.batch_weights import Balance, BalanceInputs
from losses.core.terms import Item, LossTerm, all_items

Tree = Any


@dataclasses.dataclass(frozen=True)
class TermWeights:
    """Every weight at a step.

    weights:   by term and group, its own.
    effective: by term, times those of the groups around it.
    penalty:   what the objective has besides the terms.
    memory:    by term and group, what its balance remembers.
    """

    weights: Mapping[str, jax.Array]
    effective: Mapping[str, jax.Array]
    penalty: jax.Array
    memory: Tree


jax.tree_util.register_dataclass(
    TermWeights,
    data_fields=["weights", "effective", "penalty", "memory"],
    meta_fields=[],
)


def balances(items: Sequence[Item]) -> dict[str, Balance]:
    """By term and group, the weights that are balances."""
    return {
        item.name: item.weight
        for item in all_items(items)
        if isinstance(item.weight, Balance)
    }


def term_weights(
    items: Sequence[Item], seen: BalanceInputs, params: Tree, memory: Tree
) -> TermWeights:
    """The weights of all terms and groups.

    params, memory: by the names of `balances`.
    """
    seen = jax.lax.stop_gradient(seen)
    weights: dict[str, jax.Array] = {}
    remembered: Tree = {}
    penalties = [jnp.float32(0.0)]

    def weighed(item: Item) -> dict[str, jax.Array]:
        """By term, what it is multiplied by, this weight included."""
        own = {item.name: jnp.float32(1.0)}
        if not isinstance(item, LossTerm):
            own = {n: c for inner in item.terms for n, c in weighed(inner).items()}
        name, weight = item.name, item.weight
        if isinstance(weight, Balance):
            weights[name], remembered[name] = weight(
                jax.lax.stop_gradient(own), seen, params[name], memory[name]
            )
            penalties.append(weight.penalty(params[name]))
        else:
            weights[name] = scheduled(weight, seen.step)
        return {term: c * weights[name] for term, c in own.items()}

    effective = {n: c for item in items for n, c in weighed(item).items()}
    return TermWeights(
        weights={item.name: weights[item.name] for item in all_items(items)},
        effective=effective,
        penalty=functools.reduce(jnp.add, penalties),
        memory=remembered,
    )


def scheduled(weight: Any, step: jax.Array) -> jax.Array:
    """A number, or a schedule at an optimiser step, as a float32 scalar."""
    if not callable(weight):
        return jnp.float32(weight)
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix dtypes
        return jnp.asarray(weight(step), jnp.float32)


@dataclasses.dataclass(frozen=True)
class TermReport:
    """Of a term or group at a step.

    value:        before its own weight.
    contribution: to the objective, every weight included.
    share:        of the contributions at the top, by magnitude; signed.
    """

    value: jax.Array
    contribution: jax.Array
    share: jax.Array


def term_reports(
    items: Sequence[Item], weighed: TermWeights, means: Mapping[str, jax.Array]
) -> dict[str, TermReport]:
    """By term and group; `means` as in `BalanceInputs`."""
    values: dict[str, jax.Array] = {}
    contributions: dict[str, jax.Array] = {}

    def add(item: Item) -> None:
        if isinstance(item, LossTerm):
            values[item.name] = means[item.name]
            contributions[item.name] = weighed.effective[item.name] * means[item.name]
            return
        for inner in item.terms:
            add(inner)
        values[item.name] = sum(
            (weighed.weights[x.name] * values[x.name] for x in item.terms),
            jnp.float32(0.0),
        )
        contributions[item.name] = sum(
            (contributions[x.name] for x in item.terms), jnp.float32(0.0)
        )

    for item in items:
        add(item)
    top = sum((jnp.abs(contributions[item.name]) for item in items), jnp.float32(0.0))
    whole = jnp.where(top > 0.0, top, 1.0)
    return {
        item.name: TermReport(
            values[item.name],
            contributions[item.name],
            contributions[item.name] / whole,
        )
        for item in all_items(items)
    }
