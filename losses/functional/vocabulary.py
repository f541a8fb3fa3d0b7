"""Losses of the student's logits alone: cross-entropies, z-loss, confidence penalty.

Functions that end in `_from_sums` take reductions over the vocabulary in place of
logits; the loss classes call them, so that rows of logits need not exist.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def log_normalizer(
    logits: Float[Array, "*b v"], temperature: float = 1.0
) -> Float[Array, "*b"]:
    """Return `log Σ_v exp(s_v / T)`, nats."""
    return jax.nn.logsumexp(logits.astype(jnp.float32) / temperature, axis=-1)


def target_logits(
    logits: Float[Array, "*b v"], targets: Int[Array, "*b"]
) -> Float[Array, "*b"]:
    """Return `s_y`, the logit of each target; NaN of one beyond the vocabulary."""
    only_target = jnp.where(is_target(logits, targets), logits, 0.0)
    logit = jnp.sum(only_target, axis=-1, dtype=jnp.float32)
    in_vocabulary = (targets >= 0) & (targets < logits.shape[-1])
    return jnp.where(in_vocabulary, logit, jnp.nan)


def is_target(
    logits: Float[Array, "*b v"], targets: Int[Array, "*b"]
) -> Bool[Array, "*b v"]:
    """Return which entry is the target, bool `[*b v]`."""
    vocabulary = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return vocabulary == targets[..., None]


def cross_entropy(
    logits: Float[Array, "*b v"], targets: Int[Array, "*b"]
) -> Float[Array, "*b"]:
    """Return `log Σ_v exp s_v - s_y`, nats.

    Args:
      logits: the student's.
      targets: ids y; one beyond the vocabulary, -100 say, gives NaN.
    """
    return cross_entropy_from_sums(
        log_normalizer(logits), target_logits(logits, targets)
    )


def cross_entropy_from_sums(
    log_z: Float[Array, "*b"], target: Float[Array, "*b"]
) -> Float[Array, "*b"]:
    """Return `log Z - s_y`, nats."""
    return log_z - target


def smoothed_cross_entropy(
    logits: Float[Array, "*b v"], targets: Int[Array, "*b"], *, epsilon: float = 0.1
) -> Float[Array, "*b"]:
    """Return `log Z - (1 - ε) s_y - ε/V Σ_v s_v`, nats.

    Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7.

    Args:
      logits: the student's, finite.
      targets: ids y; one beyond the vocabulary, -100 say, gives NaN.
      epsilon: the weight of the uniform distribution in the targets.
    """
    return smoothed_cross_entropy_from_sums(
        log_normalizer(logits),
        target_logits(logits, targets),
        jnp.mean(logits, axis=-1, dtype=jnp.float32),
        epsilon=epsilon,
    )


def smoothed_cross_entropy_from_sums(
    log_z: Float[Array, "*b"],
    target: Float[Array, "*b"],
    mean: Float[Array, "*b"],
    *,
    epsilon: float,
) -> Float[Array, "*b"]:
    """Return `log Z - (1 - ε) s_y - ε mean_v s_v`, nats."""
    return log_z - (1.0 - epsilon) * target - epsilon * mean


def comp_sum(
    logits: Float[Array, "*b v"],
    targets: Int[Array, "*b"],
    *,
    tau: float,
    margin: float = 1.0,
) -> Float[Array, "*b"]:
    """Return `(1 - q_y^(τ-1)) / (τ-1)`; at `τ = 1` its limit, `-log q_y`, nats.

    `q = softmax(s / ρ)`.

    Source: Mao et al. 2023 (arXiv:2304.07288).

    Args:
      logits: the student's.
      targets: ids y; one beyond the vocabulary, -100 say, gives NaN.
      tau: τ, at least 0.
      margin: ρ.
    """
    return comp_sum_from_sums(
        log_normalizer(logits, margin),
        target_logits(logits, targets) / margin,
        tau=tau,
    )


def zero_one(
    logits: Float[Array, "*b v"], targets: Int[Array, "*b"]
) -> Float[Array, "*b"]:
    """Return 1 where the target is not the largest logit, else 0."""
    return (jnp.argmax(logits, axis=-1) != targets).astype(jnp.float32)


def comp_sum_from_sums(
    log_z: Float[Array, "*b"], target: Float[Array, "*b"], *, tau: float
) -> Float[Array, "*b"]:
    """Return `(1 - q_y^(τ-1)) / (τ-1)` from `log q_y = s_y - log Z`."""
    log_q = target - log_z
    if tau == 1.0:
        return -log_q
    return -jnp.expm1((tau - 1.0) * log_q) / (tau - 1.0)


def uniform_kl(logits: Float[Array, "*b v"]) -> Float[Array, "*b"]:
    """Return `KL(U || q) = log Z - 1/V Σ_v s_v - log V`, nats, of `q = softmax(s)`.

    Source: Ji et al. 2024 (arXiv:2406.08607), the retain term of the assistant.

    Args:
      logits: the student's, finite.
    """
    mean = jnp.mean(logits, axis=-1, dtype=jnp.float32)
    return uniform_kl_from_sums(log_normalizer(logits), mean, size=logits.shape[-1])


def uniform_kl_from_sums(
    log_z: Float[Array, "*b"], mean: Float[Array, "*b"], *, size: int
) -> Float[Array, "*b"]:
    """Return `log Z - mean_v s_v - log V`, nats."""
    return log_z - mean - math.log(size)


def z_loss(logits: Float[Array, "*b v"]) -> Float[Array, "*b"]:
    """Return `(log Σ_v exp s_v)²`, nats².

    Source: Chowdhery et al. 2022, PaLM (arXiv:2204.02311), section 5.
    """
    return z_loss_from_sums(log_normalizer(logits))


def z_loss_from_sums(log_z: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Return `(log Z)²`, nats²."""
    return jnp.square(log_z)


def confidence_penalty(logits: Float[Array, "*b v"]) -> Float[Array, "*b"]:
    """Return `Σ_v q_v log q_v`, nats, minus the entropy of `q = softmax(s)`.

    Source: Pereyra et al. 2017 (arXiv:1701.06548), section 3.2.

    Args:
      logits: the student's; an entry of -inf adds nothing.
    """
    return negative_entropy(*finite_logits(logits), log_normalizer(logits))


def finite_logits(
    logits: Float[Array, "*b v"],
) -> tuple[Float[Array, "*b v"], Bool[Array, "*b v"]]:
    """Return the logits, 0 in place of -inf, float32, and where they are finite."""
    possible = logits > -jnp.inf
    return jnp.where(possible, logits.astype(jnp.float32), 0.0), possible


def negative_entropy(
    finite: Float[Array, "*b v"],
    possible: Bool[Array, "*b v"],
    log_z: Float[Array, "*b"],
) -> Float[Array, "*b"]:
    """Return `Σ_v q_v log q_v`, nats, over the possible entries."""
    log_q = finite - log_z[..., None]
    return jnp.sum(jnp.where(possible, jnp.exp(log_q) * log_q, 0.0), axis=-1)
