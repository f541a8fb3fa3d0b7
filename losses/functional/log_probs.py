"""Divergences of two lists of finite log-probabilities, `[*b n]` each.

The loss classes call these over whole vocabularies and over stored entries alike;
`losses.functional.divergences` calls them over logits. `p` is the teacher's, `q` the
student's.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LogProbs = Float[Array, "*b n"]
PerToken = Float[Array, "*b"]

FLOOR = -1e5
"""Log-probabilities are at least this, nats: an entry of -inf is impossible, but its
products with probabilities and their gradients are finite. Below it, no gradient."""

_TINY = 1e-30
_STEEPEST = 40.0
"""Exponents of powers above 1, nats, beyond which they go on as their tangent."""


def floored(log_probabilities: LogProbs) -> LogProbs:
    """Return these, at least `FLOOR`."""
    return jnp.maximum(log_probabilities, FLOOR)


def log_probabilities(
    student_logits: Float[Array, "*b v"],
    teacher_logits: Float[Array, "*b w"],
    temperature: float = 1.0,
) -> tuple[LogProbs, LogProbs]:
    """Return `log softmax(t / T)` and `log softmax(s / T)` over the ids of both sides.

    Args:
      student_logits: s.
      teacher_logits: t; where the widths differ, the first `min(v, w)` ids are compared
        and both sides are renormalised there.
      temperature: T.
    """
    scores = shared_scores(student_logits, teacher_logits, temperature)
    return normalize_scores(*scores, jax.nn.logsumexp(scores[1], axis=-1))


def shared_scores(
    student_logits: Float[Array, "*b v"],
    teacher_logits: Float[Array, "*b w"],
    temperature: float,
) -> tuple[LogProbs, LogProbs]:
    """Return `t / T` and `s / T` over the first `min(v, w)` ids, float32."""
    width = min(student_logits.shape[-1], teacher_logits.shape[-1])
    s, t = (
        logits[..., :width].astype(jnp.float32) / temperature
        for logits in (student_logits, teacher_logits)
    )
    return t, s


def normalize_scores(
    t: LogProbs, s: LogProbs, student_log_z: PerToken
) -> tuple[LogProbs, LogProbs]:
    """Return floored log-probabilities of scores, the student's from its `log Z`."""
    log_p = floored(t - jax.nn.logsumexp(t, axis=-1, keepdims=True))
    return log_p, floored(s - student_log_z[..., None])


def student_best_entries(
    log_p: LogProbs, log_q: LogProbs, *, best: int
) -> tuple[Float[Array, "*b k+1"], Float[Array, "*b k+1"]]:
    """Return both sides over the student's `best` entries and one for all others.

    Args:
      log_p: the teacher's, over the vocabulary.
      log_q: the student's.
      best: k; all where there are fewer, and nothing is left for the last entry.
    """
    best = min(best, log_q.shape[-1])
    ids = jax.lax.top_k(jax.lax.stop_gradient(log_q), best)[1]
    others = jnp.ones(log_q.shape, bool)
    others = jnp.put_along_axis(others, ids, False, axis=-1, inplace=False)

    def entries(log_x: LogProbs) -> Array:
        rest = jax.nn.logsumexp(jnp.where(others, log_x, 2 * FLOOR), axis=-1)
        at_ids = jnp.take_along_axis(log_x, ids, axis=-1)
        return jnp.concatenate([at_ids, floored(rest)[..., None]], axis=-1)

    return entries(log_p), entries(log_q)


def kl(log_a: LogProbs, log_b: LogProbs, *, partial: bool = False) -> PerToken:
    """Return `KL(a‖b) = Σ_i a_i (log a_i - log b_i)`, nats.

    Args:
      log_a: a list.
      log_b: another of the same entries.
      partial: whether these are some entries of each side, whose sums need not be 1.
        `Σ_i (b_i - a_i)` is added then: each entry's part is at least 0, and 0 only
        where `a_i = b_i`. Over whole distributions it adds nothing.
    """
    a = jnp.exp(log_a)
    parts = a * (log_a - log_b)
    if partial:
        parts = parts + (jnp.exp(log_b) - a)
    return jnp.sum(parts, axis=-1)


def symmetric_kl(
    log_p: LogProbs,
    log_q: LogProbs,
    *,
    reverse_weight: float = 0.5,
    partial: bool = False,
) -> PerToken:
    """Return `(1 - w) KL(p‖q) + w KL(q‖p)`, nats, w being `reverse_weight`."""
    forward = kl(log_p, log_q, partial=partial)
    reverse = kl(log_q, log_p, partial=partial)
    return mix_directions(forward, reverse, reverse_weight)


def mix_directions(
    forward: PerToken, reverse: PerToken, reverse_weight: float
) -> PerToken:
    """Return `(1 - w) forward + w reverse`."""
    return (1.0 - reverse_weight) * forward + reverse_weight * reverse


def jensen_shannon(log_p: LogProbs, log_q: LogProbs, *, beta: float = 0.5) -> PerToken:
    """Return `β KL(p‖m) + (1 - β) KL(q‖m)`, nats, with `m = β p + (1 - β) q`."""
    log_m = log_mixture(log_p, log_q, share=beta)
    return beta * kl(log_p, log_m) + (1.0 - beta) * kl(log_q, log_m)


def skew_kl(
    log_a: LogProbs, log_b: LogProbs, *, skew: float = 0.1, partial: bool = False
) -> PerToken:
    """Return `KL(a ‖ α a + (1 - α) b)`, nats, α being `skew`."""
    return kl(log_a, log_mixture(log_a, log_b, share=skew), partial=partial)


def log_mixture(log_a: LogProbs, log_b: LogProbs, *, share: float) -> LogProbs:
    """Return `log(share a + (1 - share) b)`; share is below 1."""
    if isinstance(share, jax.Array):  # of a schedule
        return jnp.logaddexp(jnp.log(share) + log_a, jnp.log1p(-share) + log_b)
    if share == 0.0:
        return log_b
    return jnp.logaddexp(math.log(share) + log_a, math.log1p(-share) + log_b)


def total_variation(log_p: LogProbs, log_q: LogProbs) -> PerToken:
    """Return `1/2 Σ_v |p_v - q_v|`, in [0, 1]."""
    difference = jnp.exp(log_p) - jnp.exp(log_q)
    return 0.5 * jnp.sum(jnp.abs(difference), axis=-1)


def alpha_divergence(
    log_p: LogProbs, log_q: LogProbs, *, order: float = 0.5
) -> PerToken:
    """Return `Σ_v (a p_v + (1-a) q_v - p_v^a q_v^(1-a)) / (a (1-a))`, nats.

    `a` is `order`; at 0 and 1 the limits are taken.
    """
    p, q, a = jnp.exp(log_p), jnp.exp(log_q), order
    if a == 1.0:
        return kl(log_p, log_q, partial=True)
    if a == 0.0:
        return kl(log_q, log_p, partial=True)
    exponents = a * log_p + (1.0 - a) * log_q
    power = jnp.exp(exponents) if 0.0 < a < 1.0 else _exp_or_tangent(exponents)
    gap = a * p + (1.0 - a) * q - power
    return jnp.sum(gap, axis=-1) / (a * (1.0 - a))


def alpha_beta_divergence(
    log_p: LogProbs, log_q: LogProbs, *, alpha: float, beta: float
) -> PerToken:
    """Return `Σ_v (α p_v^s / s + β q_v^s / s - p_v^α q_v^β) / (α β)`, s = α + β."""
    total = alpha + beta
    p, q = jnp.exp(total * log_p), jnp.exp(total * log_q)
    product = jnp.exp(alpha * log_p + beta * log_q)
    gap = (alpha / total) * p + (beta / total) * q - product
    return jnp.sum(gap, axis=-1) / (alpha * beta)


def renyi_divergence(
    log_p: LogProbs, log_q: LogProbs, *, order: float = 0.5
) -> PerToken:
    """Return `1/(a-1) log Σ_v p_v^a q_v^(1-a)`, nats, a being `order`; at 1, the KL."""
    if order == 1.0:
        return kl(log_p, log_q)
    powers = order * log_p + (1.0 - order) * log_q
    return jax.nn.logsumexp(powers, axis=-1) / (order - 1.0)


def adaptive_kl(
    log_p: LogProbs,
    log_q: LogProbs,
    *,
    head_mass: float = 0.5,
    rest: bool = False,
    partial: bool = False,
) -> PerToken:
    """Return `w KL(p‖q) + (1 - w) KL(q‖p)`, nats, w following the gaps in p's head.

    Args:
      log_p: the teacher's.
      log_q: the student's.
      head_mass: the cumulative mass of p's head.
      rest: whether the last entry is a rest, and so in the tail whatever its mass.
      partial: as of `kl`.
    """
    constants = jax.lax.stop_gradient((log_p, log_q))
    weight = _head_share_of_gaps(*constants, head_mass=head_mass, rest=rest)
    forward = kl(log_p, log_q, partial=partial)
    reverse = kl(log_q, log_p, partial=partial)
    return weight * forward + (1.0 - weight) * reverse


def todi(log_p: LogProbs, log_q: LogProbs) -> PerToken:
    """Return `Σ_v (w_v p_v log(p_v/q_v) + (1 - w_v) q_v log(q_v/p_v))`, nats.

    `w_v = p_v / (p_v + q_v)`, without a gradient.
    """
    ratio = log_p - log_q
    weight = jax.nn.sigmoid(jax.lax.stop_gradient(ratio))
    forward = weight * jnp.exp(log_p) * ratio
    reverse = (1.0 - weight) * jnp.exp(log_q) * ratio
    return jnp.sum(forward - reverse, axis=-1)


def _exp_or_tangent(x: LogProbs) -> LogProbs:
    below = jnp.minimum(x, _STEEPEST)
    return jnp.exp(below) * (1.0 + x - below)


def _head_share_of_gaps(
    log_p: LogProbs, log_q: LogProbs, *, head_mass: float, rest: bool
) -> PerToken:
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    n = p.shape[-1]
    place = jax.lax.broadcasted_iota(jnp.int32, p.shape, p.ndim - 1)
    is_rest = (place == n - 1) & rest
    key = jnp.where(is_rest, jnp.inf, -p)
    _, p, gap = jax.lax.sort((key, p, jnp.abs(p - q)), num_keys=1)
    head = (jnp.cumsum(p, axis=-1) <= head_mass) | (place == 0)
    in_head = jnp.sum(jnp.where(head, gap, 0.0), axis=-1)
    return in_head / jnp.maximum(jnp.sum(gap, axis=-1), _TINY)
