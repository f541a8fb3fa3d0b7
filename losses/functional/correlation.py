"""Correlation of teacher and student probabilities, and standardized logits."""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.functional.log_probs import log_probabilities
from losses.functional.masks import counted, where_counted

Student = Float[Array, "*b v"]
Teacher = Float[Array, "*b w"]
PerToken = Float[Array, "*b"]


def inter_class_correlation(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    epsilon: float = 1e-12,
) -> PerToken:
    """Return `1 - r_v(p_v, q_v)`, in [0, 2]: over the vocabulary, for each token.

    Source: Huang et al. 2022, DIST (arXiv:2205.10536), its inter-class part.

    Args:
      student_logits: s, `q = softmax(s / T)`.
      teacher_logits: t, `p = softmax(t / T)`.
      temperature: T.
      epsilon: added to V times each variance.
    """
    p, q = probabilities(student_logits, teacher_logits, temperature)
    return inter_class_distance(p, q, epsilon=epsilon)


def intra_class_correlation(
    student_logits: Student,
    teacher_logits: Teacher,
    mask: Bool[Array, "*b"] | None = None,
    temperature: float = 1.0,
    *,
    epsilon: float = 1e-9,
) -> Float[Array, ""]:
    """Return `1/V Σ_v (1 - r_b(p_v, q_v))`, in [0, 2]: over the tokens of these arrays.

    The loss class has one value per token, whose mean over the global batch is this.

    Source: Huang et al. 2022, DIST (arXiv:2205.10536), its intra-class part.

    Args:
      student_logits: s.
      teacher_logits: t.
      mask: the tokens that count; None for all.
      temperature: T.
      epsilon: added to each variance.
    """
    student_logits = where_counted(student_logits, mask)
    teacher_logits = where_counted(teacher_logits, mask)
    p, q = probabilities(student_logits, teacher_logits, temperature)
    tokens = counted(mask, p.shape[:-1])
    count = jnp.maximum(jnp.sum(tokens), 1.0)
    means = {
        name: jnp.tensordot(tokens, moment, axes=tokens.ndim) / count
        for name, moment in moments(p, q).items()
    }
    return jnp.mean(intra_class_distances(means, epsilon=epsilon))


def probabilities(
    student_logits: Student, teacher_logits: Teacher, temperature: float = 1.0
) -> tuple[Student, Student]:
    """Return p and q over the ids that both sides have."""
    log_p, log_q = log_probabilities(student_logits, teacher_logits, temperature)
    return jnp.exp(log_p), jnp.exp(log_q)


def inter_class_distance(p: Student, q: Student, *, epsilon: float) -> PerToken:
    """Return `1 - r_v(p_v, q_v)` of probabilities `[*b v]`."""
    p, q = (x - jnp.mean(x, axis=-1, keepdims=True) for x in (p, q))
    return correlation_distance(
        jnp.sum(p * q, axis=-1),
        jnp.sum(jnp.square(p), axis=-1),
        jnp.sum(jnp.square(q), axis=-1),
        epsilon=epsilon,
    )


def moments(p: Student, q: Student) -> dict[str, Student]:
    """Return the first and second moments of p and q, `[*b v]`, before any mean."""
    return {
        "p": p,
        "q": q,
        "pp": jnp.square(p),
        "qq": jnp.square(q),
        "pq": p * q,
    }


def intra_class_distances(
    means: Mapping[str, Float[Array, " v"]], *, epsilon: float
) -> Float[Array, " v"]:
    """Return `1 - r_b(p_v, q_v)` of the means of `moments` over tokens, `[v]`."""
    p, q = means["p"], means["q"]
    var_p = jnp.maximum(means["pp"] - jnp.square(p), 0.0)
    var_q = jnp.maximum(means["qq"] - jnp.square(q), 0.0)
    return correlation_distance(means["pq"] - p * q, var_p, var_q, epsilon=epsilon)


def correlation_distance(
    covariance: Float[Array, "*b"],
    var_p: Float[Array, "*b"],
    var_q: Float[Array, "*b"],
    *,
    epsilon: float,
) -> Float[Array, "*b"]:
    """Return `1 - cov / sqrt((var p + ε) (var q + ε))`."""
    return 1.0 - covariance / jnp.sqrt((var_p + epsilon) * (var_q + epsilon))


def standardize(
    logits: Float[Array, "*b v"], *, ddof: int = 0, epsilon: float = 1e-7
) -> Float[Array, "*b v"]:
    """Return `(x - mean_v x) / sqrt(var_v x + ε)`; entries of -inf stay, uncounted.

    Source: Sun et al. 2024 (arXiv:2403.01427), algorithm 1 with τ = 1. `Standardized`
    is its inner loss of the standardized logits of both sides.

    Args:
      logits: x.
      ddof: what the number of entries is less by in the variance.
      epsilon: under the root.
    """
    possible = logits > -jnp.inf
    finite = jnp.where(possible, logits.astype(jnp.float32), 0.0)
    count = jnp.sum(possible, axis=-1, keepdims=True, dtype=jnp.float32)
    mean = jnp.sum(finite, axis=-1, keepdims=True) / jnp.maximum(count, 1.0)
    centred = jnp.where(possible, finite - mean, 0.0)
    squares = jnp.sum(jnp.square(centred), axis=-1, keepdims=True)
    variance = squares / jnp.maximum(count - ddof, 1.0)
    return jnp.where(possible, centred / jnp.sqrt(variance + epsilon), -jnp.inf)


def with_prior(
    student_logits: Student,
    teacher_logits: Teacher,
    *,
    scale: float = 0.5,
    power: float = 0.4,
    of: Literal["logits", "probabilities"] = "logits",
    typical: float = 1.0,
) -> Float[Array, "*b v"]:
    """Return `t + β / κ · (s - mean_v s) / std_v s`, over the entries of both.

    `κ = (mean_v ((t_v - mean t) / std t)⁴ / typical)^ρ`. Deviations are those with
    Bessel's correction.

    Source: AMU-Tuning (arXiv:2404.08958).

    Args:
      student_logits: s.
      teacher_logits: t; no gradient.
      scale: β.
      power: ρ.
      of: what κ is of: t, or `softmax(t)`.
      typical: as above.
    """
    width = min(student_logits.shape[-1], teacher_logits.shape[-1])
    prior = jax.lax.stop_gradient(teacher_logits[..., :width].astype(jnp.float32))
    scores = prior if of == "logits" else jax.nn.softmax(prior)
    weight = scale / (kurtosis(scores) / typical) ** power
    return prior + weight * standardize(student_logits[..., :width], ddof=1)


def kurtosis(x: Float[Array, "*b v"]) -> Float[Array, "*b 1"]:
    """Return `mean_v ((x_v - mean x) / std x)⁴`, with Bessel's correction of std.

    Entries of -inf do not count. Equal ones have the least there is, `((n - 1) / n)²`.
    """
    scores = standardize(x, ddof=1, epsilon=1e-20)
    possible = scores > -jnp.inf
    fourth = jnp.square(jnp.square(jnp.where(possible, scores, 0.0)))
    count = jnp.sum(possible, axis=-1, keepdims=True, dtype=jnp.float32)
    count = jnp.maximum(count, 2.0)
    mean = jnp.sum(fourth, axis=-1, keepdims=True) / count
    return jnp.maximum(mean, jnp.square((count - 1.0) / count))
