"""Distances between single logits, summed over the vocabulary.

Entries that are -inf on either side are left out, and ids that one side does not have.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.functional.log_probs import floored
from losses.functional.masks import counted, where_counted

Student = Float[Array, "*b v"]
Teacher = Float[Array, "*b w"]
PerToken = Float[Array, "*b"]
Logits = Float[Array, "*b n"]
Elementwise = Callable[[Logits, Logits], Logits]


def logit_mse(
    student_logits: Student, teacher_logits: Teacher, temperature: float = 1.0
) -> PerToken:
    """Return `1/V Σ_v ((s_v - t_v) / T)²`.

    Source: Ba and Caruana 2013 (arXiv:1312.6184), there half the sum over v.
    """
    return mean_of_sums(
        *distance_sums(squared_distance, student_logits, teacher_logits, temperature)
    )


def binary_kl(
    student_logits: Student, teacher_logits: Teacher, temperature: float = 1.0
) -> PerToken:
    """Return `Σ_v KL(Bern σ(t_v / T) ‖ Bern σ(s_v / T))`, nats.

    Source: DHKD (arXiv:2411.08937).
    """
    return distance_sums(bernoulli_kl, student_logits, teacher_logits, temperature)[0]


def binary_kl_norm(
    student_logits: Student, teacher_logits: Teacher, temperature: float = 1.0
) -> PerToken:
    """Return `Σ_v log cosh((s_v - t_v) / 2T)`, nats.

    Source: DHKD (arXiv:2411.08937).
    """
    return distance_sums(
        bernoulli_kl_of_gap, student_logits, teacher_logits, temperature
    )[0]


def squared_distance(s: Logits, t: Logits) -> Logits:
    """Return `(s - t)²`."""
    return jnp.square(s - t)


def bernoulli_kl(s: Logits, t: Logits) -> Logits:
    """Return `KL(Bern σ(t) ‖ Bern σ(s)) = σ(t)(t - s) + softplus(s) - softplus(t)`."""
    gap = jax.nn.softplus(s) - jax.nn.softplus(t)
    return jax.nn.sigmoid(t) * (t - s) + gap


def bernoulli_kl_of_gap(s: Logits, t: Logits) -> Logits:
    """Return `KL(Bern 1/2 ‖ Bern σ(s - t)) = log cosh((s - t) / 2)`."""
    gap = s - t
    return jax.nn.softplus(gap) - 0.5 * gap - math.log(2.0)


def distance_sums(
    distance: Elementwise,
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
) -> tuple[PerToken, PerToken]:
    """Return `Σ_v d(s_v / T, t_v / T)` and the number of entries in the sum."""
    width = min(student_logits.shape[-1], teacher_logits.shape[-1])
    s, t = (
        logits[..., :width].astype(jnp.float32) / temperature
        for logits in (student_logits, teacher_logits)
    )
    distances, possible = finite_distances(distance, s, t)
    return jnp.sum(distances, axis=-1), jnp.sum(possible, axis=-1)


def finite_distances(
    distance: Elementwise, s: Logits, t: Logits
) -> tuple[Logits, Logits]:
    """Return d and 1 where both logits are finite, else 0 and 0, `[*b n]` each."""
    possible = (s != -jnp.inf) & (t != -jnp.inf)
    distances = distance(jnp.where(possible, s, 0.0), jnp.where(possible, t, 0.0))
    return jnp.where(possible, distances, 0.0), possible.astype(jnp.float32)


def mean_of_sums(total: PerToken, count: PerToken) -> PerToken:
    """Return `total / count`, 0 where nothing was counted."""
    return total / jnp.maximum(count, 1.0)


def logit_graph(
    student_logits: Float[Array, "*b v"],
    teacher_logits: Float[Array, "*b w"],
    mask: Bool[Array, "*b"] | None = None,
    *,
    best: int = 10,
    scores: str = "log_probabilities",
) -> PerToken:
    """Return `1/k Σ_i |f_C(i) - f_D(i)|` of each row, at all of its tokens, nats².

    Source: Wang et al. 2025, InfiGFusion (arXiv:2505.13893), its graph on logits.

    Args:
      student_logits: C is of their k best log-probabilities.
      teacher_logits: D is of theirs; the vocabularies need not be the same.
      mask: the tokens that count; None for all.
      best: k.
      scores: `"log_probabilities"`, or raw `"logits"` in their place.
    """
    normed = jax.nn.log_softmax if scores == "log_probabilities" else jnp.asarray
    ours, theirs = (
        jax.lax.top_k(normed(x.astype(jnp.float32)), best)[0]
        for x in (
            where_counted(student_logits, mask),
            where_counted(teacher_logits, mask),
        )
    )
    return graph_distance(ours, theirs, mask)


def sorted_logits(
    student_logits: Student,
    teacher_logits: Teacher,
    *,
    best: int = 10,
    scores: str = "log_probabilities",
) -> PerToken:
    """Return `1/k Σ_i |z^s_i - z^t_i|` of the k best scores in descending order, nats.

    Source: Wang et al. 2025, InfiGFusion (arXiv:2505.13893).

    Args:
      student_logits: z^s are of these.
      teacher_logits: z^t are of these; the vocabularies need not be the same.
      best: k.
      scores: `"log_probabilities"`, or raw `"logits"` in their place.
    """
    normed = jax.nn.log_softmax if scores == "log_probabilities" else jnp.asarray
    ours, theirs = (
        jax.lax.top_k(normed(x.astype(jnp.float32)), best)[0]
        for x in (student_logits, teacher_logits)
    )
    return ranked_distance(ours, theirs)


def ranked_distance(
    student: Float[Array, "*b k"], teacher: Float[Array, "*b k"]
) -> PerToken:
    """Return `1/k Σ_i |s_i - t_i|` of scores in descending order."""
    return jnp.mean(jnp.abs(floored(student) - floored(teacher)), axis=-1)


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
