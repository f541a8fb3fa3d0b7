"""Losses between attention scores, and between relations of tokens.

The loss classes take the mean of these over pairs of layers.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.functional.in_batch import info_nce
from losses.functional.log_probs import kl
from losses.functional.masks import check_mask, where_counted

Scores = Float[Array, "*b h t"]
Visible = Bool[Array, "*b h t"]
Rows = Float[Array, "*b h"]
PerToken = Float[Array, "*b"]
Tokens = Float[Array, "n d"]
Scalar = Float[Array, ""]


def attention_kl(student_scores: Scores, teacher_scores: Scores) -> PerToken:
    """Return `1/H Σ_h KL(softmax t_h ‖ softmax s_h)`, nats.

    Source: Wang et al. 2020, MiniLM (arXiv:2002.10957), eq. 7.

    Args:
      student_scores: s, before the softmax, -inf at keys that a token may not see.
      teacher_scores: t, alike; keys that either side may not see are left out.
    """
    visible = visible_keys(student_scores, teacher_scores)
    return jnp.mean(row_kl(student_scores, teacher_scores, visible), axis=-1)


def attention_mse(student_scores: Scores, teacher_scores: Scores) -> PerToken:
    """Return `1/H Σ_h 1/n Σ_k (s_hk - t_hk)²` over the n keys that a token may see.

    Source: Jiao et al. 2019, TinyBERT (arXiv:1909.10351), eq. 7.

    Args:
      student_scores: as in `attention_kl`.
      teacher_scores: as in `attention_kl`.
    """
    visible = visible_keys(student_scores, teacher_scores)
    return jnp.mean(row_mse(student_scores, teacher_scores, visible), axis=-1)


def visible_keys(student_scores: Scores, teacher_scores: Scores) -> Visible:
    """Return the keys that both sides may see, bool `[*b h t]`."""
    return (student_scores > -jnp.inf) & (teacher_scores > -jnp.inf)


def row_kl(student: Scores, teacher: Scores, visible: Visible) -> Rows:
    """Return `KL(softmax t ‖ softmax s)`, nats, over the visible keys `[... t]`.

    There must be one of these in every row.
    """

    def log_probabilities(scores: Scores) -> Scores:
        scores = jnp.where(visible, scores.astype(jnp.float32), -jnp.inf)
        log_p = jax.nn.log_softmax(scores, axis=-1)
        return jnp.where(visible, log_p, 0.0)

    return kl(log_probabilities(teacher), log_probabilities(student))


def row_mse(student: Scores, teacher: Scores, visible: Visible) -> Rows:
    """Return the mean of `(s - t)²` over the visible keys `[... t]`."""
    student, teacher = (
        jnp.where(visible, scores.astype(jnp.float32), 0.0)
        for scores in (student, teacher)
    )
    gap = student - teacher
    count = jnp.sum(visible, axis=-1, dtype=jnp.float32)
    return jnp.sum(jnp.square(gap), axis=-1) / jnp.maximum(count, 1.0)


def relations(
    student: Float[Array, "..."],
    teacher: Float[Array, "..."],
    segment_ids: Int[Array, "*b t"],
    *,
    heads: int,
    mask: Bool[Array, "*b t"] | None = None,
) -> Float[Array, "*b t"]:
    """Return `1/A Σ_a KL(R^T_a ‖ R^S_a)`, nats, with `R_a = softmax(X_a X_aᵀ / √d_a)`.

    Source: Wang et al. 2020, MiniLMv2 (arXiv:2012.15828), eq. 2 to 5, here causal.

    Args:
      student: queries, keys, values or hidden states, `[*b t ...]`: tokens, features.
      teacher: alike; widths may differ, the number of tokens may not.
      segment_ids: documents; a token relates to its own alone.
      heads: A, by which the number of features divides.
      mask: the tokens that count as keys; None for all.
    """
    ours, theirs = (
        relation_scores(x, segment_ids.ndim, heads) for x in (student, teacher)
    )
    visible = jnp.expand_dims(related_tokens(segment_ids, mask), -2)
    visible = jnp.broadcast_to(visible, ours.shape)
    return jnp.mean(row_kl(ours, theirs, visible), axis=-1)


def relation_scores(
    x: Float[Array, "..."], token_axes: int, heads: int
) -> Float[Array, "*b t h t"]:
    """Return `X_a X_aᵀ / √d_a`, `[*b t A t]`; heads must divide the features."""
    axes = x.shape[:token_axes]
    width = math.prod(x.shape[token_axes:])
    parts = x.astype(jnp.float32).reshape(*axes, heads, width // heads)
    scale = math.sqrt(width / heads)
    return jnp.einsum("...tad,...sad->...tas", parts, parts) / scale


def related_tokens(
    segment_ids: Int[Array, "*b t"], mask: Bool[Array, "*b t"] | None
) -> Bool[Array, "*b t t"]:
    """Return whether token t relates to token s of its row."""
    length = segment_ids.shape[-1]
    same = jnp.expand_dims(segment_ids, -1) == jnp.expand_dims(segment_ids, -2)
    if mask is not None:
        check_mask("mask", mask, segment_ids.shape)
        same &= jnp.expand_dims(mask, -2)
    earlier = jnp.broadcast_to(jnp.tri(length, dtype=bool), same.shape)
    itself = jnp.broadcast_to(jnp.eye(length, dtype=bool), same.shape)
    return (same & earlier) | itself


def token_context(
    student: Float[Array, "*b t d"],
    teacher: Float[Array, "*b t e"],
    visible: Bool[Array, "*b t t"] | None = None,
) -> Float[Array, "*b t"]:
    """Return `1/n Σ_j (R^s_ij - R^t_ij)²` at token i, `R = softmax(X Xᵀ / √d)`.

    Source: Zhang et al. 2023 (arXiv:2306.12442), its contextual loss.

    Args:
      student: X of the student, the tokens of a row.
      teacher: X of the teacher; the widths need not be the same.
      visible: whether token i relates to token j; None for all.
    """

    def relation(x: Float[Array, "*b t d"]) -> Float[Array, "*b t t"]:
        x = x.astype(jnp.float32)
        scores = jnp.einsum("...id,...jd->...ij", x, x) / math.sqrt(x.shape[-1])
        if visible is None:
            return jax.nn.softmax(scores, axis=-1)
        # A row with nothing to see has no maximum to take off.
        scores = jnp.where(visible, scores, -1e30)
        return jnp.where(visible, jax.nn.softmax(scores, axis=-1), 0.0)

    squares = jnp.square(relation(student) - relation(teacher))
    if visible is None:
        return jnp.mean(squares, axis=-1)
    count = jnp.sum(visible, axis=-1, dtype=jnp.float32)
    return jnp.sum(squares, axis=-1) / jnp.maximum(count, 1.0)


def token_graph(
    student: Tokens,
    teacher: Float[Array, "n e"],
    there: Bool[Array, " n"] | None = None,
    *,
    neighbors: int = 8,
    width: float | None = 1.0,
    direction: Literal["reverse", "forward"] = "reverse",
) -> Scalar:
    """Return `1/n Σ_i KL(softmax_j A^s_ij ‖ softmax_j A^t_ij)`, nats.

    `A_ij = exp(-|x_i - x_j|² / (2 width))` of the `neighbors` other tokens j nearest to
    i in the teacher's features, and 0 elsewhere.

    Source: Zhang et al. 2023 (arXiv:2306.12442), its local loss.

    Args:
      student: x of the student, n tokens.
      teacher: x of the teacher; the widths need not be the same.
      there: the tokens that count; None for all.
      neighbors: of each token, at most.
      width: σ; None is the mean of `|x_i - x_j|²` over the neighbours of each side.
      direction: `"reverse"`, or `"forward"` with the teacher first.
    """
    size = len(student)
    counts = jnp.ones(size, bool) if there is None else there
    both = counts[:, None] & counts[None, :]
    apart = [_squared_distances(where_counted(x, there)) for x in (student, teacher)]
    others = jnp.where(both & ~jnp.eye(size, dtype=bool), apart[1], jnp.inf)
    distance, nearest = jax.lax.top_k(-others, min(neighbors, size))
    near = (
        jnp.zeros((size, size), bool)
        .at[jnp.arange(size)[:, None], nearest]
        .set(distance > -jnp.inf)
    )

    def log_relation(squares: Float[Array, "n n"]) -> Float[Array, "n n"]:
        scale = width
        if scale is None:
            total = jnp.sum(jnp.where(near, squares, 0.0))
            pairs = jnp.maximum(jnp.sum(near, dtype=jnp.float32), 1.0)
            scale = jax.lax.stop_gradient(jnp.maximum(total / pairs, 1e-12))
        affinity = jnp.where(near, jnp.exp(squares / (-2.0 * scale)), 0.0)
        scores = jnp.where(counts[None, :], affinity, -jnp.inf)
        scores = jnp.where(jnp.any(counts), scores, 0.0)
        return jnp.where(both, jax.nn.log_softmax(scores, axis=-1), 0.0)

    log_q, log_p = (log_relation(x) for x in apart)
    values = kl(log_q, log_p) if direction == "reverse" else kl(log_p, log_q)
    count = jnp.maximum(jnp.sum(counts, dtype=jnp.float32), 1.0)
    return jnp.sum(jnp.where(counts, values, 0.0)) / count


def token_contrast(
    student: Tokens,
    teacher: Tokens,
    there: Bool[Array, " n"] | None = None,
    *,
    temperature: float | Scalar = 0.1,
) -> Scalar:
    """Return `-1/n Σ_i log softmax_j(cos(s_i, t_j) / T)_i`, nats.

    Source: Zhang et al. 2023 (arXiv:2306.12442), its global loss.

    Args:
      student: s, n tokens, in the teacher's width.
      teacher: t.
      there: the tokens that count; None for all.
      temperature: T.
    """
    ours, theirs = (_directions(where_counted(x, there)) for x in (student, teacher))
    return info_nce(ours / temperature, theirs, there, temperature=1.0)


def _directions(x: Tokens) -> Tokens:
    x = x.astype(jnp.float32)
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


def _squared_distances(x: Tokens) -> Float[Array, "n n"]:
    x = x.astype(jnp.float32)
    gram = x @ x.T
    squares = jnp.diagonal(gram)
    return jnp.maximum(squares[:, None] + squares[None, :] - 2.0 * gram, 0.0)
