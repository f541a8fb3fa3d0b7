"""Distances between single logits, summed over the vocabulary.

Entries that are -inf on either side are left out, and ids that one side does not have.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
