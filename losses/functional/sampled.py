"""Estimates of the reverse KL from one draw of the student's."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.functional import log_probs, vocabulary
from losses.functional.log_probs import floored, log_probabilities


def sampled_reverse_kl(
    student_logits: Float[Array, "*b v"],
    teacher_logits: Float[Array, "*b w"],
    targets: Int[Array, "*b"],
    temperature: float = 1.0,
    *,
    estimator: str = "k1",
) -> Float[Array, "*b"]:
    """Return an estimate of `KL(q‖p)`, nats, from targets drawn from q.

    Args:
      student_logits: of q.
      teacher_logits: of p; of other widths, the ids that both have are compared.
      targets: y, the draws.
      temperature: T of both.
      estimator: "k1", "k2" or "k3", see `losses.SampledReverseKL`.
    """
    sides = log_probabilities(student_logits, teacher_logits, temperature)
    log_p, log_q = (floored(vocabulary.target_logits(x, targets)) for x in sides)
    return estimate(log_q, log_p, estimator)


def estimate(
    log_q: Float[Array, "*b"], log_p: Float[Array, "*b"], estimator: str
) -> Float[Array, "*b"]:
    """Return the estimate from the log-probabilities of the draw on both sides."""
    gap = log_q - log_p
    match estimator:
        case "k1":  # the value of the gap, the gradient of its score
            return jax.lax.stop_gradient(gap) + score_gradient(gap, log_q)
        case "k2":
            return jnp.square(gap) / 2.0
    return jnp.expm1(-gap) + gap


def minillm(
    student_logits: Float[Array, "b t v"],
    teacher_logits: Float[Array, "b t w"],
    targets: Int[Array, "b t"],
    mask: Bool[Array, "b t"],
    *,
    long_term: float = 1.0,
    over: str = "mean",
    drawn: Float[Array, "b t"] | None = None,
) -> Float[Array, "b t"]:
    """Return `KL(q‖p)`, nats, with the gradient of the sequences' KL.

    Args:
      student_logits: of q; a row is one sequence.
      teacher_logits: of p; of other widths, the ids that both have are compared.
      targets: y, drawn from q.
      mask: the tokens that count.
      long_term: weight of what follows a token.
      over: "mean" or "sum", see `losses.MiniLLM`.
      drawn: log-probability that each target was drawn with; None where q drew it.
    """
    log_p, log_q = log_probabilities(student_logits, teacher_logits, 1.0)
    score = vocabulary.target_logits(log_q, targets)
    gaps = floored(score) - floored(vocabulary.target_logits(log_p, targets))
    follows = of_followers(jax.lax.stop_gradient(gaps), mask, over=over)
    values = log_probs.kl(log_q, log_p) + score_gradient(long_term * follows, score)
    return values if drawn is None else importance(score, drawn) * values


def importance(
    log_q: Float[Array, "*b"], drawn: Float[Array, "*b"]
) -> Float[Array, "*b"]:
    """Return `q_y / p̃_y`, a constant.

    Args:
      log_q: of the target, nats.
      drawn: `log p̃_y`, which the target was drawn with.
    """
    return jax.lax.stop_gradient(jnp.exp(log_q - drawn))


def score_gradient(
    weights: Float[Array, "*b"], log_q: Float[Array, "*b"]
) -> Float[Array, "*b"]:
    """Return 0, with the gradient `weights ∇ log q`."""
    score = jax.lax.stop_gradient(weights) * log_q
    return score - jax.lax.stop_gradient(score)


def of_followers(
    values: Float[Array, "b t"], mask: Bool[Array, "b t"], *, over: str = "mean"
) -> Float[Array, "b t"]:
    """Return the mean or sum of the values that count after each; 0 after the last.

    Args:
      values: one a token.
      mask: the tokens that count.
      over: "mean" or "sum".
    """

    def after(x: Float[Array, "b t"]) -> Float[Array, "b t"]:
        return jnp.cumsum(x[:, ::-1], axis=1)[:, ::-1] - x

    total = after(jnp.where(mask, values, 0.0))
    if over == "sum":
        return total
    return total / jnp.maximum(after(mask.astype(jnp.float32)), 1.0)


def group_advantages(
    rewards: Float[Array, " b"],
    there: Bool[Array, " b"] | None = None,
    *,
    group: int,
    eps: float = 1e-6,
) -> Float[Array, " b"]:
    """Return `(r - mean r) / (stddev r + eps)` over each `group` rows side by side.

    The deviation has one degree of freedom less than there are rows; a single row has
    an advantage of 0.

    Source: Shao et al. 2024, GRPO (arXiv:2402.03300), section 4.1.2.

    Args:
      rewards: r.
      there: the rows that count; None for all.
      group: rows, which divide b.
      eps: added to the deviation.
    """
    counts = jnp.ones(rewards.shape, bool) if there is None else there
    counts = counts.reshape((-1, group))
    values = jnp.where(counts, rewards.astype(jnp.float32).reshape((-1, group)), 0.0)
    number = jnp.sum(counts, axis=1, keepdims=True, dtype=jnp.float32)
    mean = jnp.sum(values, axis=1, keepdims=True) / jnp.maximum(number, 1.0)
    apart = jnp.where(counts, values - mean, 0.0)
    square = jnp.sum(jnp.square(apart), axis=1, keepdims=True)
    deviation = jnp.sqrt(square / jnp.maximum(number - 1.0, 1.0))
    return (apart / (deviation + eps)).reshape(rewards.shape)


def clipped_policy_gradient(
    log_q: Float[Array, "*b"],
    advantages: Float[Array, "*b"],
    drawn: Float[Array, "*b"] | None = None,
    *,
    clip: float = 0.2,
) -> Float[Array, "*b"]:
    """Return `-min(ρ A, clip(ρ, 1 - ε, 1 + ε) A)`, `ρ = exp(log q - log q^drawn)`.

    Source: Schulman et al. 2017, PPO (arXiv:1707.06347), eq. 7.

    Args:
      log_q: of each target, nats.
      advantages: A.
      drawn: log q^drawn; None for log q itself, a constant.
      clip: ε.
    """
    if drawn is None:
        drawn = log_q
    ratio = jnp.exp(log_q - jax.lax.stop_gradient(drawn))
    kept = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    return -jnp.minimum(ratio * advantages, kept * advantages)
