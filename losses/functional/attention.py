"""Losses between attention scores, and between relations of tokens.

The loss classes take the mean of these over pairs of layers.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.functional.log_probs import kl
from losses.functional.masks import check_mask

Scores = Float[Array, "*b h t"]
Visible = Bool[Array, "*b h t"]
Rows = Float[Array, "*b h"]
PerToken = Float[Array, "*b"]


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
