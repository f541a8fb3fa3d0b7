"""Functions of means over a batch: metrics as losses, groups, and bags.

Each is one value for its arrays, from the means that the loss classes take over the
global batch. Functions that end in `_of_means` take these means.
"""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.functional.log_probs import floored
from losses.functional.masks import counted, where_counted

Metric = Literal["accuracy", "f_beta", "g_mean", "balanced_accuracy"]
GroupRule = Literal["worst", "mean", "spread", "variance", "deviation"]
BagDistance = Literal["cross_entropy", "squared"]
Means = Mapping[str, Float[Array, "..."]]
Scalar = Float[Array, ""]

_TINY = 1e-12


def any_loss(
    logits: Float[Array, "*b v"],
    targets: Int[Array, "*b"],
    mask: Bool[Array, "*b"] | None = None,
    *,
    metric: Metric = "f_beta",
    positive: int = 1,
    sharpness: float | None = 73.0,
    beta: float = 1.0,
) -> Scalar:
    """Return one minus a binary metric of amplified probabilities.

    Source: Han et al. 2024 (arXiv:2405.14745).

    Args:
      logits: the student's.
      targets: ids.
      mask: the tokens that count; None for all.
      metric: the metric.
      positive: the id whose probability is read; all others are its negatives.
      sharpness: L of `1 / (1 + exp(-L (q - 1/2)))`; None for q itself.
      beta: of `"f_beta"`.
    """
    logits = where_counted(logits, mask).astype(jnp.float32)
    log_q = jax.nn.log_softmax(logits)
    log_q = jnp.take(log_q, positive, axis=-1, mode="fill")  # NaN beyond the last
    moments = confusion_moments(log_q, targets == positive, sharpness=sharpness)
    tokens = counted(mask, targets.shape)
    return any_loss_of_means(masked_means(moments, tokens), metric=metric, beta=beta)


def confusion_moments(
    log_q: Float[Array, "*b"],
    is_positive: Bool[Array, "*b"],
    *,
    sharpness: float | None,
) -> dict[str, Float[Array, "*b"]]:
    """Return the amplified probability, the label, and their product, `[*b]`."""
    predicted = jnp.exp(log_q)
    if sharpness is not None:
        predicted = jax.nn.sigmoid(sharpness * (predicted - 0.5))
    label = is_positive.astype(jnp.float32)
    return {"predicted": predicted, "label": label, "both": predicted * label}


def any_loss_of_means(means: Means, *, metric: Metric, beta: float) -> Scalar:
    """Return one minus the metric of the means of `confusion_moments`.

    A batch without positives, or without negatives, has a recall of 0 there.
    """
    predicted, label, both = (means[name] for name in ("predicted", "label", "both"))
    neither = 1.0 - predicted - label + both
    if metric == "accuracy":
        return 1.0 - (both + neither)
    if metric == "f_beta":
        square = beta**2
        return 1.0 - (1.0 + square) * both / (square * label + predicted + _TINY)
    of_positives = both / (label + _TINY)
    of_negatives = neither / (1.0 - label + _TINY)
    if metric == "balanced_accuracy":
        return 1.0 - 0.5 * (of_positives + of_negatives)
    return 1.0 - jnp.sqrt(jnp.maximum(of_positives * of_negatives, 0.0) + _TINY)


def over_groups(
    values: Float[Array, "*b"],
    groups: Int[Array, "*b"],
    mask: Bool[Array, "*b"] | None = None,
    *,
    num_groups: int,
    rule: GroupRule = "worst",
) -> Scalar:
    """Return a function of the mean values of the groups.

    Args:
      values: one a token.
      groups: ids from 0; a token of another id is in no group.
      mask: the tokens that count; None for all.
      num_groups: of ids.
      rule: the largest mean, the mean of the means, or a measure of how they differ.
    """
    members = jax.nn.one_hot(groups, num_groups, dtype=jnp.float32)
    values = where_counted(values, mask)
    moments = {"share": members, "value": members * values[..., None]}
    tokens = counted(mask, groups.shape)
    return over_groups_of_means(masked_means(moments, tokens), rule=rule)


def over_groups_of_means(means: Means, *, rule: GroupRule) -> Scalar:
    """Return the rule's function of `value / share` `[g]`; a group of none is left out.

    `"spread"` is the largest minus the least, `"variance"` that of the means, and
    `"deviation"` the sum of their distances from their mean.
    """
    share = means["share"]
    there = share > 0.0
    by_group = jnp.where(there, means["value"] / jnp.where(there, share, 1.0), 0.0)
    count = jnp.maximum(jnp.sum(there, dtype=jnp.float32), 1.0)
    mean = jnp.sum(by_group) / count
    most = jnp.max(jnp.where(there, by_group, -jnp.inf))
    least = jnp.min(jnp.where(there, by_group, jnp.inf))
    nothing = ~jnp.any(there)
    most, least = (jnp.where(nothing, 0.0, x) for x in (most, least))
    from_mean = jnp.where(there, by_group - mean, 0.0)
    return {
        "worst": lambda: most,
        "mean": lambda: mean,
        "spread": lambda: most - least,
        "variance": lambda: jnp.sum(jnp.square(from_mean)) / count,
        "deviation": lambda: jnp.sum(jnp.abs(from_mean)),
    }[rule]()


def bag_loss(
    logits: Float[Array, "*b v"],
    targets: Int[Array, "*b"],
    bags: Int[Array, "*b"],
    mask: Bool[Array, "*b"] | None = None,
    *,
    num_bags: int,
    instance_weight: float = 0.1,
    distance: BagDistance = "squared",
) -> Scalar:
    """Return `(1 - ρ) L_bag + ρ L_instance` of the mean labels of bags.

    Source: Javanmard et al. 2024 (arXiv:2401.11081).

    Args:
      logits: q is their softmax.
      targets: ids; of each bag their shares alone are read.
      bags: ids from 0.
      mask: the tokens that count; None for all.
      num_bags: of ids.
      instance_weight: ρ.
      distance: between the shares of a bag and what is predicted.
    """
    log_q = jax.nn.log_softmax(where_counted(logits, mask).astype(jnp.float32))
    tokens = counted(mask, targets.shape).reshape(-1)
    moments = bag_sums(
        log_q.reshape(-1, log_q.shape[-1]),
        targets.reshape(-1),
        bags.reshape(-1),
        tokens,
        num_bags=num_bags,
        distance=distance,
    )
    count = jnp.maximum(jnp.sum(tokens), 1.0)
    means = {name: value / count for name, value in moments.items()}
    return bag_loss_of_means(means, instance_weight=instance_weight, distance=distance)


def bag_sums(
    log_q: Float[Array, "n v"],
    targets: Int[Array, " n"],
    bags: Int[Array, " n"],
    tokens: Float[Array, " n"],
    *,
    num_bags: int,
    distance: BagDistance,
) -> dict[str, Float[Array, "..."]]:
    """Return the sums over tokens that a bag loss reads, by bag.

    `share` `[g]` counts tokens, `label` `[g v]` their labels; `q` `[g v]` sums the
    probabilities, and `each` what `L_instance` reads of them: `log q` `[g v]`, or
    `Σ_v q²` `[g]`.
    """
    members = jax.nn.one_hot(bags, num_bags, dtype=jnp.float32) * tokens[:, None]
    labels = jax.nn.one_hot(targets, log_q.shape[-1], dtype=jnp.float32)
    each = instance_part(log_q, distance)
    return {
        "share": jnp.sum(members, axis=0),
        "label": members.T @ labels,
        "q": members.T @ jnp.exp(log_q),
        "each": members.T @ each,
    }


def instance_part(
    log_q: Float[Array, "*b v"], distance: BagDistance
) -> Float[Array, "..."]:
    """Return what `L_instance` sums over the tokens of a bag: `log q`, or `Σ_v q²`."""
    if distance == "cross_entropy":
        return floored(log_q)  # -inf by a count of 0 is no number
    return jnp.sum(jnp.exp(2.0 * log_q), axis=-1)


def bag_loss_of_means(
    means: Means, *, instance_weight: float, distance: BagDistance
) -> Scalar:
    """Return `(1 - ρ) L_bag + ρ L_instance` from the means of `bag_sums` over tokens.

    Each bag weighs by its tokens, so that both are means over tokens.
    """
    share = means["share"]
    there = (share > 0.0)[:, None]
    of_bag = jnp.where(there, share[:, None], 1.0)
    label, q = means["label"] / of_bag, means["q"] / of_bag
    if distance == "cross_entropy":
        # Of a bag without tokens, and of an entry without labels, nothing is read.
        log_mean = jnp.log(jnp.where(label > 0.0, jnp.maximum(q, 1e-30), 1.0))
        bag = -jnp.sum(share * jnp.sum(label * log_mean, axis=-1))
        instance = -jnp.sum(label * means["each"])
    else:
        bag = jnp.sum(share * jnp.sum(jnp.square(label - q), axis=-1))
        # `Σ_i |y - q_i|²` of a bag: `n |y|² - 2 y · Σ q_i + Σ |q_i|²`.
        instance = jnp.sum(
            share * jnp.sum(jnp.square(label), axis=-1)
            - 2.0 * jnp.sum(label * means["q"], axis=-1)
            + means["each"]
        )
    return (1.0 - instance_weight) * bag + instance_weight * instance


def masked_means(
    moments: Means, tokens: Float[Array, "*b"]
) -> dict[str, Float[Array, "..."]]:
    """Return the means of arrays `[*b ...]` over the tokens that count."""
    count = jnp.maximum(jnp.sum(tokens), 1.0)
    return {
        name: jnp.tensordot(tokens, moment, axes=tokens.ndim) / count
        for name, moment in moments.items()
    }
