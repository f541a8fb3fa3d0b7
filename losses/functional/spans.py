"""Distances over spans of text that two tokenizers cut differently.

A span is text whose two ends are ends of tokens on both sides. Its probability is the
product of those of its tokens (chain rule), each given all that is before it.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.functional import log_probs

Student = Float[Array, "*b v"]
PerToken = Float[Array, "*b"]

LEAST_CERTAIN = 2.0**-20
"""The least `-log P` of a span, nats: below it, float32 does not tell `1 - P`."""

CLAMP = 1e-8
"""The least probability in a hybrid's divergence, as in TRL."""


def span_likelihood(
    student_log_probability: PerToken,
    teacher_log_probability: PerToken,
    temperature: float = 1.0,
    *,
    divergence: str = "kl",
    order: float = 0.5,
) -> PerToken:
    """Return `D(Bern P^(1/T) ‖ Bern Q^(1/T))` of a span's probabilities.

    In nats, but for the total variation at finite T, which has no unit.

    Source: Minixhofer et al. 2025, ALM (arXiv:2503.20083).

    Args:
      student_log_probability: `log Q` of each span.
      teacher_log_probability: `log P`.
      temperature: T; at infinity the limit of `T D`.
      divergence: D: `"kl"`, `"reverse_kl"`, `"total_variation"` or `"renyi"`.
      order: of Rényi's, positive and not 1.
    """
    limit = isinstance(temperature, float) and math.isinf(temperature)
    log_q, log_p = (
        jnp.minimum(
            x.astype(jnp.float32) / (1.0 if limit else temperature), -LEAST_CERTAIN
        )
        for x in (student_log_probability, teacher_log_probability)
    )
    if divergence == "total_variation":
        return jnp.abs(log_p - log_q if limit else jnp.exp(log_p) - jnp.exp(log_q))
    if divergence == "renyi":
        if limit:
            rest = order * log_p + (1.0 - order) * log_q
            mixed = order * jnp.log(-log_p) + (1.0 - order) * jnp.log(-log_q)
            return (jnp.exp(mixed) + rest) / (order - 1.0)
        inside = order * log_p + (1.0 - order) * log_q
        outside = order * _log_complement(log_p)
        outside = outside + (1.0 - order) * _log_complement(log_q)
        return jnp.logaddexp(inside, outside) / (order - 1.0)
    if divergence == "reverse_kl":
        log_p, log_q = log_q, log_p
    if limit:
        return log_p * jnp.log(log_q / log_p) + log_p - log_q
    inside = jnp.exp(log_p) * (log_p - log_q)
    outside = -jnp.expm1(log_p) * (_log_complement(log_p) - _log_complement(log_q))
    return inside + outside


def _log_complement(log_p: PerToken) -> PerToken:
    """Return `log(1 - p)`, of log p below 0, without loss of digits at either end."""
    near = jnp.log(-jnp.expm1(jnp.maximum(log_p, -1.0)))
    return jnp.where(log_p > -1.0, near, jnp.log1p(-jnp.exp(jnp.minimum(log_p, -1.0))))


def uld(
    student_logits: Student,
    teacher_logits: Float[Array, "*b w"],
    *,
    student_log_before: PerToken | float = 0.0,
    teacher_log_before: PerToken | float = 0.0,
) -> PerToken:
    """Return `Σ_r |q_(r) - p_(r)|`, each side's probabilities sorted downwards.

    The narrower vocabulary goes on with zeros.

    Source: Boizard et al. 2024, ULD (arXiv:2402.12030), eq. 5; over spans as in TRL's
    `ULDLoss`, where a distribution is times the probability of the span's tokens before
    its last.

    Args:
      student_logits: of q, at the last token of a span.
      teacher_logits: of p, there.
      student_log_before: log-probability of the span's tokens before, nats.
      teacher_log_before: the same of the teacher's.
    """
    q = span_probabilities(student_logits, student_log_before)
    return sorted_distance(q, span_probabilities(teacher_logits, teacher_log_before))


def hybrid_uld(
    student_logits: Student,
    shared_logits: Student,
    other_logits: Float[Array, "*b u"],
    *,
    student_log_before: PerToken | float = 0.0,
    teacher_log_before: PerToken | float = 0.0,
    beta: float = 0.5,
    weights: tuple[float, float] | None = None,
) -> PerToken:
    """Return `w JSD_β(p, q)` over shared tokens plus `u ULD(p, q)` over the others.

    Source: GOLD (TRL's `ULDLoss` with `uld_use_hybrid_loss`).

    Args:
      student_logits: of q, at the last token of a span.
      shared_logits: the teacher's at the student's ids, -inf where it has no such
        token.
      other_logits: the teacher's of tokens that the student has not.
      student_log_before: as in `uld`.
      teacher_log_before: as in `uld`.
      beta: β; 0 is `KL(p‖q)`, 1 `KL(q‖p)`.
      weights: w and u; None for w = the share of the teacher's tokens that are
        shared, u = 1 - w.
    """
    q = span_probabilities(student_logits, student_log_before)
    logits = jnp.concatenate([shared_logits, other_logits], axis=-1)
    p = span_probabilities(logits, teacher_log_before)
    width = student_logits.shape[-1]
    shared = shared_logits > -jnp.inf

    # Tokens of both sides one by one; probabilities of a span need not sum to 1.
    logs = [jnp.log(jnp.maximum(x, CLAMP)) for x in (p[..., :width], q)]
    log_p, log_q = (jnp.where(shared, x, jnp.log(CLAMP)) for x in logs)
    matched = _generalized_jsd(log_p, log_q, beta)

    # The others by rank, where both sides have some.
    count = jnp.sum(shared, axis=-1)
    unmatched = sorted_distance(jnp.where(shared, 0.0, q), p[..., width:])
    unmatched = jnp.where((count < width) & (other_logits.shape[-1] > 0), unmatched, 0)
    if weights is not None:
        return weights[0] * matched + weights[1] * unmatched
    share = count / (count + other_logits.shape[-1])
    return share * matched + (1.0 - share) * unmatched


def sorted_distance(q: Student, p: Float[Array, "*b w"]) -> PerToken:
    """Return `Σ_r |q_(r) - p_(r)|`, each side sorted downwards, zeros at its end."""
    width = max(q.shape[-1], p.shape[-1])

    def ranked(x: Array) -> Array:
        zeros = [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])]
        return jnp.pad(-jnp.sort(-x, axis=-1), zeros)

    return jnp.sum(jnp.abs(ranked(q) - ranked(p)), axis=-1)


def span_probabilities(logits: Student, log_before: PerToken | float) -> Student:
    """Return the probabilities of spans that end with each token, `[*b v]`."""
    before = jnp.exp(jnp.minimum(jnp.asarray(log_before, jnp.float32), 0.0))
    before = jnp.broadcast_to(before, logits.shape[:-1])[..., None]
    return jax.nn.softmax(logits.astype(jnp.float32)) * before


def sum_over_spans(
    values: Float[Array, "b t"], spans: Int[Array, "b t"], at: Int[Array, "b u"]
) -> Float[Array, "b u"]:
    """Return the sums of values over each span of a row, at the spans `at`.

    Args:
      values: of tokens.
      spans: number of each token's span in its row, from 1; 0 of none.
      at: the spans that are wanted; 0 gives 0.
    """
    totals = jnp.zeros((spans.shape[0], _most(spans, at)), values.dtype)
    row = jnp.arange(spans.shape[0])[:, None]
    totals = totals.at[row, spans].add(jnp.where(spans > 0, values, 0))
    return jnp.take_along_axis(totals.at[:, 0].set(0), at, axis=1)


def before_last(spans: Int[Array, "b t"]) -> Bool[Array, "b t"]:
    """Return which tokens are in a span and not its last."""
    return _places(spans) < last_of_span(spans)


def last_of_span(spans: Int[Array, "b t"]) -> Int[Array, "b t"]:
    """Return the place of the last token of each token's span; of none, its own."""
    own = _places(spans)
    row = jnp.arange(spans.shape[0])[:, None]
    last = jnp.zeros((spans.shape[0], spans.shape[1] + 1), jnp.int32)
    last = last.at[row, spans].max(own)
    return jnp.where(spans > 0, jnp.take_along_axis(last, spans, axis=1), own)


def _places(spans: Int[Array, "b t"]) -> Int[Array, "b t"]:
    return jax.lax.broadcasted_iota(jnp.int32, spans.shape, 1)


def _most(*spans: Int[Array, "b t"]) -> int:
    """Return one more than the spans that rows can have."""
    return 1 + max(x.shape[1] for x in spans)


def _generalized_jsd(log_p: Array, log_q: Array, beta: float) -> PerToken:
    if beta == 0.0:
        return log_probs.kl(log_p, log_q)
    if beta == 1.0:
        return log_probs.kl(log_q, log_p)
    return log_probs.jensen_shannon(log_p, log_q, beta=beta)
