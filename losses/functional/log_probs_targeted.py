"""Divergences of log-probabilities that treat one entry, the target, apart."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.functional.log_probs import LogProbs, PerToken, kl


def decoupled_kd(
    log_p: LogProbs,
    log_q: LogProbs,
    is_target: Bool[Array, "*b n"],
    *,
    target_weight: float = 1.0,
    non_target_weight: float = 1.0,
) -> PerToken:
    """Return `α KL(b_p‖b_q) + β KL(p̂‖q̂)`, nats: the target apart from the others."""
    pair_p, others_p = split_target(log_p, is_target)
    pair_q, others_q = split_target(log_q, is_target)
    of_others = kl(others_p, others_q)
    value = target_weight * kl(pair_p, pair_q)
    return value + non_target_weight * of_others


def target_cross_entropy(
    log_p: LogProbs, log_q: LogProbs, is_target: Bool[Array, "*b n"]
) -> PerToken:
    """Return `-p_y log q_y`, nats."""
    pair_p, _ = split_target(log_p, is_target)
    pair_q, _ = split_target(log_q, is_target)
    return -jnp.exp(pair_p[..., 0]) * pair_q[..., 0]


def non_target_cross_entropy(
    log_p: LogProbs, log_q: LogProbs, is_target: Bool[Array, "*b n"]
) -> PerToken:
    """Return `-Σ_{i≠y} p̂_i log q̂_i`, nats, both renormalised over the others."""
    _, others_p = split_target(log_p, is_target)
    _, others_q = split_target(log_q, is_target)
    crossed = jnp.exp(others_p) * others_q
    return -jnp.sum(jnp.where(~is_target, crossed, 0.0), axis=-1)


def split_target(
    log_p: LogProbs, is_target: Bool[Array, "*b n"]
) -> tuple[Float[Array, "*b 2"], LogProbs]:
    """Return log-probabilities of (target, all others), and of each other entry.

    The latter are renormalised over the others; the target has the same one on every
    side among them, and compares as equal.
    """
    others = jnp.where(is_target, -jnp.inf, log_p)
    log_rest = jax.nn.logsumexp(others, axis=-1)
    log_target = jnp.sum(jnp.where(is_target, log_p, 0.0), axis=-1)
    renormalized = jnp.where(is_target, 0.0, log_p) - log_rest[..., None]
    return (
        jnp.stack([log_target, log_rest], axis=-1),
        jnp.where(is_target, 0.0, renormalized),
    )


def plackett_luce(
    log_p: LogProbs,
    log_q: LogProbs,
    is_target: Bool[Array, "*b n"],
    *,
    rest: bool = False,
) -> PerToken:
    """Return `Σ_k p_{π_k} (log Σ_{l≥k} q_{π_l} - log q_{π_k})`, nats.

    π is the target, then the other entries by descending p; a rest comes last.
    """
    key = jnp.where(is_target, -jnp.inf, -log_p)
    if rest:
        key = key.at[..., -1].set(jnp.inf)
    _, log_p, log_q = jax.lax.sort((key, log_p, log_q), num_keys=1)
    remaining = jax.lax.cumlogsumexp(log_q, axis=log_q.ndim - 1, reverse=True)
    steps = jnp.exp(log_p) * (remaining - log_q)
    return jnp.sum(steps, axis=-1)
