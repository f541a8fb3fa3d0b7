"""Terms summed over tokens: the one place where values meet masks and counts."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from clu.metrics import Average
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from losses.core.batch_weights import Reweighting
from losses.core.loss import Loss, TokenWeight
from losses.core.masks import Mask, token_masks
from losses.core.of_rows import PLACE
from losses.core.outputs import (
    FullOutputs,
    IncompatibleLoss,
    NeedsFullLogits,
    Outputs,
    PerToken,
)
from losses.core.terms import LossTerm
from losses.core.vocab_sums import TiledOutputs

Statistics = dict[str, dict[str, Float[Array, "..."]]]
"""Means or sums over a batch, by term and by the loss's own name."""


class TokenValues(NamedTuple):
    """Values of one term, float32, zero (with zero gradient) where masked.

    Attributes:
      values: as the loss returns them.
      weighted: times the term's token weights; these are differentiated.
    """

    values: PerToken
    weighted: PerToken


def per_token(
    terms: Sequence[LossTerm],
    outputs: Outputs,
    *,
    masks: Mapping[str, Bool[Array, "*b"]],
    statistics: Mapping[str, Mapping[str, Float[Array, "..."]]],
    token_weights: Mapping[str, Float[Array, "*b"]] | None = None,
    active: Mapping[str, Bool[Array, ""]] | None = None,
) -> dict[str, TokenValues]:
    """Return the values of every term, by its name.

    Args:
      terms: the terms.
      outputs: inputs of the losses.
      masks: by term, the tokens that it counts.
      statistics: by term, masked means over the global batch of `Loss.statistics`.
      token_weights: by term, where they come from a `Reweighting`; a term of one that
        is missing here is not reweighted.
      active: by term, whether its values are differentiated at all, which they are
        where it is missing here.
    """
    token_weights, active = token_weights or {}, active or {}
    results = {}
    for term, inputs in _mask_outputs(terms, outputs, masks):
        inputs = dataclasses.replace(inputs, statistics=statistics.get(term.name, {}))
        if term.name in active:
            inputs = inputs.detached_unless(active[term.name])
        mask = masks[term.name]
        assert isinstance(term.loss, Loss)  # built, if it owns parameters
        values = _values(term.loss, inputs)
        values = _per_token(f"{type(term.loss).__name__} of", term, values, mask)
        values = jnp.where(mask, values, 0.0)
        weighted = values
        if term.name in token_weights:
            weighted = values * jnp.where(mask, token_weights[term.name], 0.0)
        elif not isinstance(term.token_weight, Reweighting | None):
            weight = _token_weights(term.token_weight, inputs)
            weight = _per_token("token_weight of", term, weight, mask)
            weight = jax.lax.stop_gradient(weight)
            weighted = values * jnp.where(mask, weight, 0.0)
        results[term.name] = TokenValues(values, weighted)
    return results


def _per_token(
    what: str, term: LossTerm, values: Any, mask: Bool[Array, "*b"]
) -> PerToken:
    """Return the values of a term in float32.

    Raises:
      IncompatibleLoss: they are not one float a token.
    """
    values = jnp.asarray(values)
    is_float = jnp.issubdtype(values.dtype, jnp.floating)
    if values.shape != mask.shape or not is_float:
        raise IncompatibleLoss(
            f"{what} term {term.name!r} must return one float a token, "
            f"{list(mask.shape)}; got {values.dtype} {list(values.shape)}"
        )
    return values.astype(jnp.float32)


def _values(loss: Loss, outputs: Outputs) -> PerToken:
    """Return a loss's values from rows of logits or from tiles of them.

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
    terms: Sequence[LossTerm],
    outputs: Outputs,
    *,
    masks: Mapping[str, Bool[Array, "*b"]],
    statistics: Mapping[str, Mapping[str, Float[Array, "..."]]] | None = None,
) -> Statistics:
    """Return, by term, its `Loss.statistic_sums` over these tokens.

    Args:
      terms: the terms.
      outputs: inputs of the losses.
      masks: by term, the tokens that it counts.
      statistics: by term, the means of the pass before this one.
    """
    results, statistics = {}, statistics or {}
    for term, inputs in _mask_outputs(terms, outputs, masks):
        inputs = dataclasses.replace(inputs, statistics=statistics.get(term.name, {}))
        tokens = masks[term.name].astype(jnp.float32)
        assert isinstance(term.loss, Loss)  # built, if it owns parameters
        results[term.name] = dict(term.loss.statistic_sums(inputs, tokens))
    return results


def batch_statistics(
    terms: Sequence[LossTerm],
    counts: Mapping[str, Float[Array, ""]],
    sums: Callable[[Sequence[LossTerm], Statistics], Statistics],
) -> Statistics:
    """Return, by term, the masked means of its statistics over the whole batch.

    Args:
      terms: those that want any.
      counts: by term, the tokens that it counts.
      sums: a pass over the batch, of the terms and the means of the pass before.
    """
    means: Statistics = {}
    wanting, passes = terms, 0
    while terms:
        for name, by_name in sums(terms, means).items():
            count = jnp.maximum(counts[name], 1.0)
            means[name] = {key: value / count for key, value in by_name.items()}
        passes += 1
        terms = [
            term
            for term in terms
            if isinstance(term.loss, Loss) and term.loss.statistic_passes > passes
        ]
    for term in wanting:
        assert isinstance(term.loss, Loss)
        means[term.name] = dict(term.loss.settled(means[term.name]))
    return means


def wants_means(loss: Loss) -> bool:
    """Return whether a loss asks for `statistics` of the global batch."""
    kind = type(loss)
    plain = (Loss.statistics, Loss.statistic_sums)
    return (kind.statistics, kind.statistic_sums) != plain


def evaluate(terms: Sequence[LossTerm], outputs: Outputs) -> dict[str, Average]:
    """Return, by term, the masked sum of values and the count; divides nothing.

    Logits of fewer bits are read as float32; sums are float32. Statistics are those of
    these outputs alone. Under `jit`, a target that counts and is outside of the
    vocabulary makes the sums of the terms that read it NaN.

    Raises:
      IncompatibleLoss: a term does not fit, or reads such a target.
    """
    outputs = _with_places(_in_float32(outputs))
    masks = token_masks(terms, outputs.batch)
    counts = {name: jnp.sum(mask, dtype=jnp.float32) for name, mask in masks.items()}

    def sums_of(terms: Sequence[LossTerm], means: Statistics) -> Statistics:
        return statistic_sums(terms, outputs, masks=masks, statistics=means)

    means = batch_statistics(terms, counts, sums_of)
    results = per_token(
        terms, outputs, masks=masks, statistics=jax.lax.stop_gradient(means)
    )
    for name, result in results.items():
        _check_targets(name, result.values, outputs, masks[name])
    sums = {name: jnp.sum(result.values) for name, result in results.items()}
    return averages(sums, counts)


def _check_targets(
    name: str, values: PerToken, outputs: Outputs, mask: Bool[Array, "*b"]
) -> None:
    """Refuse targets outside of the vocabulary where they make a term's values NaN.

    Raises:
      IncompatibleLoss: with the first of them; under `jit` there are none to see.
    """
    if isinstance(values, Tracer) or "targets" not in outputs.batch:
        return
    counted = dataclasses.replace(outputs, mask=mask)
    wrong = counted.targets_outside(outputs.num_outputs) & jnp.isnan(values)
    if not wrong.any():
        return
    place = tuple(int(i) for i in jnp.argwhere(wrong)[0])
    raise IncompatibleLoss(
        f"{name!r} counts target {int(outputs.batch['targets'][place])} at "
        f"{list(place)}, which is not in the vocabulary, 0 to "
        f"{outputs.num_outputs - 1}; mask is False where there is none"
    )


def _with_places(outputs: Outputs) -> Outputs:
    """Return outputs that are a global batch: each row has its place."""
    axes = outputs.batch["targets"].shape
    rows = jnp.arange(axes[0], dtype=jnp.int32)
    place = jnp.broadcast_to(rows.reshape((-1,) + (1,) * (len(axes) - 1)), axes)
    batch = {**outputs.batch, PLACE: place}
    return dataclasses.replace(outputs, batch=batch, num_rows=axes[0])


def _in_float32(outputs: Outputs) -> Outputs:
    """Return outputs whose whole logits, on both sides, are float32."""
    if not isinstance(outputs, FullOutputs):
        return outputs
    teacher = outputs.teacher
    if teacher is not None and teacher.logits is not None:
        logits = teacher.logits.astype(jnp.float32)
        teacher = dataclasses.replace(teacher, logits=logits)
    logits = outputs.logits.astype(jnp.float32)
    return dataclasses.replace(outputs, logits=logits, teacher=teacher)


def averages(
    sums: Mapping[str, Float[Array, ""]], counts: Mapping[str, Float[Array, ""]]
) -> dict[str, Average]:
    """Return, by term, `sum / count` as a metric, which divides when it is computed."""
    # clu reaches its dataclass decorator by an import that pyright does not follow.
    return {
        name: Average(total=total, count=counts[name])  # pyright: ignore[reportCallIssue]
        for name, total in sums.items()
    }


def _mask_outputs(
    terms: Sequence[LossTerm],
    outputs: Outputs,
    masks: Mapping[str, Bool[Array, "*b"]],
) -> Iterator[tuple[LossTerm, Outputs]]:
    """Yield each term with its outputs, zero where masked; equal masks share them."""
    by_mask: dict[Mask | None, Outputs] = {}
    for term in terms:
        reads = getattr(term.loss, "reads", None)
        visible = term.mask if reads is None else reads
        if visible not in by_mask:
            mask = masks[term.name] if reads is None else reads(outputs.batch)
            by_mask[visible] = outputs.where(mask)
        yield term, by_mask[visible]
