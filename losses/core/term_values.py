"""Terms summed over tokens: the one place where values meet masks and counts."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from clu.metrics import Average

from losses.core.batch_weights import Reweighting
from losses.core.loss import Loss, TokenWeight
from losses.core.outputs import (
    IncompatibleLoss,
    NeedsFullLogits,
    Outputs,
    PerToken,
)
from losses.core.terms import LossTerm
from losses.core.vocab_sums import TiledOutputs


class TokenValues(NamedTuple):
    """Of one term, `[*b]` float32, zero (with zero gradient) where masked.

    values:   as the loss gives them.
    weighted: times the term's token weights; what is differentiated.
    """

    values: PerToken
    weighted: PerToken


def per_token(
    terms: Sequence[LossTerm],
    outputs: Outputs,
    *,
    masks: Mapping[str, jax.Array],
    statistics: Mapping[str, Mapping[str, jax.Array]],
    reweighted: Mapping[str, jax.Array] | None = None,
) -> dict[str, TokenValues]:
    """By term, its values; `masks` and `statistics` are by term too.

    reweighted: `[*b]` by term, where the token weights are a `Reweighting`; terms that
                are not there are taken without.
    """
    reweighted = reweighted or {}
    result = {}
    for term, seen in _shown(terms, outputs, masks):
        seen = dataclasses.replace(seen, statistics=statistics.get(term.name, {}))
        mask = masks[term.name]
        assert isinstance(term.loss, Loss)  # made, if it owns parameters
        values = jnp.where(
            mask, jnp.asarray(_values(term.loss, seen), jnp.float32), 0.0
        )
        weighted = values
        if term.name in reweighted:
            weighted = values * jnp.where(mask, reweighted[term.name], 0.0)
        elif not isinstance(term.token_weight, Reweighting | None):
            weight = jax.lax.stop_gradient(_token_weights(term.token_weight, seen))
            weighted = values * jnp.where(mask, weight, 0.0)
        result[term.name] = TokenValues(values, weighted)
    return result


def _values(loss: Loss, outputs: Outputs) -> PerToken:
    """Return the loss's values from rows of logits or from tiles of them.

    Raises:
      NeedsFullLogits: the outputs are tiled and the loss reads rows.
      IncompatibleLoss: as above, where the loss declares that it does not.
    """
    if not isinstance(outputs, TiledOutputs):
        return loss(outputs)
    if loss.tiled is False:
        raise NeedsFullLogits
    try:
        return loss.call_tiled(outputs)
    except NeedsFullLogits:
        if loss.tiled is None:
            raise
        name = type(loss).__name__
        raise IncompatibleLoss(
            f"{name} declares tiled = True and reads whole rows of logits"
        ) from None


def _token_weights(weight: Callable[..., Any], outputs: Outputs) -> PerToken:
    if isinstance(outputs, TiledOutputs) and isinstance(weight, TokenWeight):
        return weight.call_tiled(outputs)
    return weight(outputs)


def statistic_sums(
    terms: Sequence[LossTerm], outputs: Outputs, *, masks: Mapping[str, jax.Array]
) -> dict[str, dict[str, jax.Array]]:
    """By term, its `Loss.statistic_sums` over these tokens."""
    result = {}
    for term, seen in _shown(terms, outputs, masks):
        tokens = masks[term.name].astype(jnp.float32)
        assert isinstance(term.loss, Loss)  # made, if it owns parameters
        result[term.name] = dict(term.loss.statistic_sums(seen, tokens))
    return result


def wants_means(loss: Loss) -> bool:
    """Whether a loss asks for `statistics` of the global batch."""
    kind = type(loss)
    plain = (Loss.statistics, Loss.statistic_sums)
    return (kind.statistics, kind.statistic_sums) != plain


def evaluate(terms: Sequence[LossTerm], outputs: Outputs) -> dict[str, Average]:
    """By term, the masked sum of values and the count; divides nothing.

    Statistics are those of these outputs alone.
    """
    masks = {term.name: term.mask(outputs.batch) for term in terms}
    counts = {name: jnp.sum(mask, dtype=jnp.float32) for name, mask in masks.items()}
    means = {
        name: {key: value / jnp.maximum(counts[name], 1.0) for key, value in by.items()}
        for name, by in statistic_sums(terms, outputs, masks=masks).items()
    }
    found = per_token(
        terms, outputs, masks=masks, statistics=jax.lax.stop_gradient(means)
    )
    return {name: average(jnp.sum(found[name].values), counts[name]) for name in found}


def average(total: jax.Array, count: jax.Array) -> Average:
    """`total / count`, kept as the two until it is computed."""
    # clu reaches its dataclass decorator by an import that pyright does not follow.
    return Average(total=total, count=count)  # pyright: ignore[reportCallIssue]


def _shown(
    terms: Sequence[LossTerm], outputs: Outputs, masks: Mapping[str, jax.Array]
) -> Iterator[tuple[LossTerm, Outputs]]:
    """Each term with the outputs zeroed where it is masked; equal masks share them."""
    shown: dict[Callable, Outputs] = {}
    for term in terms:
        if term.mask not in shown:
            shown[term.mask] = outputs.where(masks[term.name])
        yield term, shown[term.mask]
