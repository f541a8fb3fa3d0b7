"""Losses of the target's score among the others: standardized, and as an overlap.

Functions that end in `_from_sums` take reductions over the vocabulary in place of
logits, as those of `losses.functional.vocabulary` do.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from losses.functional.vocabulary import log_normalizer, target_logits

PerToken = Float[Array, "*b"]


def standard_score(
    logits: Float[Array, "*b v"],
    targets: Int[Array, "*b"],
    *,
    sharpness: float = 1.0,
    location: float = 0.0,
    epsilon: float = 1e-7,
) -> PerToken:
    """Return `softplus(a (b - z_y)) / a`, `z_y = (s_y - mean s) / sqrt(var s + ε)`.

    Source: de Brébisson and Vincent 2016 (arXiv:1604.08859), the Z-loss.

    Args:
      logits: s, finite.
      targets: ids y; one beyond the vocabulary, -100 say, gives NaN.
      sharpness: a.
      location: b.
      epsilon: under the root.
    """
    logits = logits.astype(jnp.float32)
    return standard_score_from_sums(
        target_logits(logits, targets),
        jnp.mean(logits, axis=-1),
        jnp.var(logits, axis=-1),
        sharpness=sharpness,
        location=location,
        epsilon=epsilon,
    )


def standard_score_from_sums(
    target: PerToken,
    mean: PerToken,
    variance: PerToken,
    *,
    sharpness: float,
    location: float,
    epsilon: float,
) -> PerToken:
    """Return `softplus(a (b - z_y)) / a` from `s_y`, the mean and the variance of s."""
    score = (target - mean) / jnp.sqrt(variance + epsilon)
    return jax.nn.softplus(sharpness * (location - score)) / sharpness


def dice(
    logits: Float[Array, "*b v"],
    targets: Int[Array, "*b"],
    *,
    focus: float = 0.0,
    smoothing: float = 1.0,
) -> PerToken:
    """Return `1 - (2 f + γ) / (f + 1 + γ)`, with `f = (1 - q_y)^α q_y`.

    Source: Li et al. 2019 (arXiv:1911.02855), the self-adjusting Dice loss.

    Args:
      logits: the student's.
      targets: ids y; one beyond the vocabulary, -100 say, gives NaN.
      focus: α.
      smoothing: γ.
    """
    return dice_from_sums(
        log_normalizer(logits),
        target_logits(logits, targets),
        focus=focus,
        smoothing=smoothing,
    )


def dice_from_sums(
    log_z: PerToken, target: PerToken, *, focus: float, smoothing: float
) -> PerToken:
    """Return `1 - (2 f + γ) / (f + 1 + γ)` from `log q_y = s_y - log Z`."""
    log_q = target - log_z
    overlap = jnp.exp(log_q)
    if focus:
        # `(1 - q)^α` has no finite slope at q = 1 for α below 1.
        rest = jnp.maximum(-jnp.expm1(log_q), jnp.finfo(jnp.float32).eps)
        overlap = overlap * rest**focus
    return 1.0 - (2.0 * overlap + smoothing) / (overlap + 1.0 + smoothing)


def aspects(
    logits: Float[Array, "*b v"], answers: Float[Array, "*b v"]
) -> Float[Array, "*b"]:
    """Return the mean binary cross-entropy of `σ(s_v)` to `a_v`, nats.

    Source: Lee et al. 2025 (arXiv:2501.13341).

    Args:
      logits: s.
      answers: a, in [0, 1].
    """
    wide = logits.astype(jnp.float32)
    values = jax.nn.softplus(wide) - answers.astype(jnp.float32) * wide
    return jnp.mean(values, axis=-1)
