"""Graphs over the ranks of logits, compared by their degrees."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.functional.log_probs import floored
from losses.functional.masks import counted

PerToken = Float[Array, "*b"]


def logit_graph(
    student_logits: Float[Array, "*b v"],
    teacher_logits: Float[Array, "*b w"],
    mask: Bool[Array, "*b"] | None = None,
    *,
    best: int = 10,
) -> PerToken:
    """Return `1/k Σ_i |f_C(i) - f_D(i)|` of each row, at all of its tokens, nats².

    Source: Wang et al. 2025, InfiGFusion (arXiv:2505.13893), its graph on logits.

    Args:
      student_logits: C is of their k best log-probabilities.
      teacher_logits: D is of theirs; the vocabularies need not be the same.
      mask: the tokens that count; None for all.
      best: k.
    """
    ours, theirs = (
        jax.lax.top_k(jax.nn.log_softmax(x.astype(jnp.float32)), best)[0]
        for x in (student_logits, teacher_logits)
    )
    return graph_distance(ours, theirs, mask)


def graph_distance(
    student: Float[Array, "*b k"],
    teacher: Float[Array, "*b k"],
    mask: Bool[Array, "*b"] | None,
) -> PerToken:
    """Return `1/k Σ_i |f_C(i) - f_D(i)|` of log-probabilities in descending order."""
    ours, theirs = (degrees(floored(x), mask) for x in (student, teacher))
    distance = jnp.mean(jnp.abs(ours - theirs), axis=-1)
    wide = distance.reshape((-1,) + (1,) * (student.ndim - 2))
    return jnp.broadcast_to(wide, student.shape[:-1])


def degrees(
    ranked: Float[Array, "*b k"], mask: Bool[Array, "*b"] | None
) -> Float[Array, "row k"]:
    """Return `f(i) = 1/(kT) Σ_t z_ti Σ_j z_tj`, sorted, of each row."""
    tokens = counted(mask, ranked.shape[:-1])
    axes = tuple(range(1, ranked.ndim - 1))
    products = ranked * jnp.mean(ranked, axis=-1, keepdims=True)
    count = jnp.maximum(jnp.sum(tokens, axis=axes), 1.0)
    total = jnp.sum(products * tokens[..., None], axis=axes)
    return jnp.sort(total / count[:, None], axis=-1)
