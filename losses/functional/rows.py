"""Relations between the rows of a batch.

Each is one value for its rows, `[n d]`; `there` says which rows count, None for all.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.functional.masks import where_counted

Rows = Float[Array, "n d"]
There = Bool[Array, " n"] | None
Scalar = Float[Array, ""]

_TINY = 1e-12


def similarity_preserving(
    student: Rows, teacher: Float[Array, "n e"], there: There = None
) -> Scalar:
    """Return `1/n² |G_s - G_t|²`, G being `X Xᵀ` with rows of norm 1.

    Source: Tung and Mori 2019 (arXiv:1907.09682), eq. 1 to 4.

    Args:
      student: X of the student.
      teacher: X of the teacher; the widths need not be the same.
      there: the rows that count.
    """
    student, teacher = (where_counted(x, there) for x in (student, teacher))
    both = _pairs(there, len(student))
    ours, theirs = (_unit(jnp.where(both, _gram(x), 0.0)) for x in (student, teacher))
    return _mean(jnp.square(ours - theirs), both)


def relational_distance(
    student: Rows, teacher: Float[Array, "n e"], there: There = None
) -> Scalar:
    """Return the mean Huber loss of `d_ij / mean d`, over pairs of rows `i ≠ j`.

    Source: Park et al. 2019, RKD (arXiv:1904.05068), eq. 4 to 8.

    Args:
      student: d are the Euclidean distances of these rows.
      teacher: the same; the widths need not be the same.
      there: the rows that count.
    """
    student, teacher = (where_counted(x, there) for x in (student, teacher))
    both = _pairs(there, len(student)) & ~jnp.eye(len(student), dtype=bool)
    ours, theirs = (_relative_distances(x, both) for x in (student, teacher))
    return _mean(_huber(ours - theirs), both)


def relational_angle(
    student: Rows, teacher: Float[Array, "n e"], there: There = None
) -> Scalar:
    """Return the mean Huber loss of `cos ∠ x_i x_j x_k`, over triplets of rows.

    The cosine is `<e_ij, e_kj>` with `e_ij = (x_i - x_j) / |x_i - x_j|`, for i, j and k
    that all differ. One corner j is compared at a time: n² numbers.

    Source: Park et al. 2019, RKD (arXiv:1904.05068), eq. 9 to 11. The released code
    takes the mean over all n³, whose others are 0.

    Args:
      student: rows x.
      teacher: the same; the widths need not be the same.
      there: the rows that count.
    """
    both = _pairs(there, len(student)) & ~jnp.eye(len(student), dtype=bool)
    student, teacher = (
        jnp.asarray(where_counted(x, there), jnp.float32) for x in (student, teacher)
    )

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def of_corner(j: Int[Array, ""]) -> Scalar:
        ours, theirs = (_gram(_unit(x - x[j][None, :])) for x in (student, teacher))
        of_triplets = both & both[j][:, None] & both[j][None, :]
        return jnp.sum(jnp.where(of_triplets, _huber(ours - theirs), 0.0))

    others = jnp.sum(jnp.any(both, axis=1), dtype=jnp.float32)
    count = jnp.maximum(others * (others - 1.0) * (others - 2.0), 1.0)
    return jnp.sum(jax.lax.map(of_corner, jnp.arange(len(student)))) / count


def probabilistic_transfer(
    student: Rows, teacher: Float[Array, "n e"], there: There = None
) -> Scalar:
    """Return `1/n Σ_i KL(P_i ‖ Q_i)`, nats, over the other rows j.

    `P_ij ∝ (1 + cos(t_i, t_j)) / 2` is the teacher's, Q the student's.

    Source: Passalis and Tefas 2018, PKT (arXiv:1803.10837), with its cosine kernel; the
    sum over rows there, and a row beside itself in the released code.

    Args:
      student: rows s.
      teacher: rows t; the widths need not be the same.
      there: the rows that count.
    """
    student, teacher = (where_counted(x, there) for x in (student, teacher))
    both = _pairs(there, len(student)) & ~jnp.eye(len(student), dtype=bool)
    log_q, log_p = (_log_affinity(x, both) for x in (student, teacher))
    terms = jnp.where(both, jnp.exp(log_p) * (log_p - log_q), 0.0)
    count = jnp.maximum(jnp.sum(jnp.any(both, axis=1), dtype=jnp.float32), 1.0)
    return jnp.sum(terms) / count


def neighbor_accuracy(
    features: Rows, labels: Int[Array, " n"], there: There = None, *, neighbors: int = 5
) -> Scalar:
    """Return the share of rows whose label is that of most of their nearest others.

    Nearest by the cosine; of labels with as many neighbours the lower.

    Source: arXiv:2503.06991, its k-NN transfer.

    Args:
      features: a row each.
      labels: integers.
      there: the rows that count.
      neighbors: how many of the others, at most.
    """
    size = len(features)
    counts = jnp.ones(size, bool) if there is None else there
    both = _pairs(there, size) & ~jnp.eye(size, dtype=bool)
    features = where_counted(features, there).astype(jnp.float32)
    similar = jnp.where(both, _gram(_unit(features)), -jnp.inf)
    closeness, nearest = jax.lax.top_k(similar, min(neighbors, size))
    votes = (labels[nearest][:, :, None] == labels[nearest][:, None, :]) & (
        closeness[:, None, :] > -jnp.inf
    )
    score = jnp.where(closeness > -jnp.inf, jnp.sum(votes, axis=2), -1)
    most = jnp.max(score, axis=1, keepdims=True)
    beyond = jnp.iinfo(labels.dtype).max
    winner = jnp.min(jnp.where(score == most, labels[nearest], beyond), axis=1)
    return _mean((winner == labels).astype(jnp.float32), counts)


def _mean(values: Float[Array, "*n"], counts: Bool[Array, "*n"]) -> Scalar:
    count = jnp.maximum(jnp.sum(counts, dtype=jnp.float32), 1.0)
    return jnp.sum(jnp.where(counts, values, 0.0)) / count


def _pairs(there: There, size: int) -> Bool[Array, "n n"]:
    counts = jnp.ones(size, bool) if there is None else there
    return counts[:, None] & counts[None, :]


def _gram(x: Rows) -> Float[Array, "n n"]:
    x = x.astype(jnp.float32)
    return x @ x.T


def _unit(x: Rows) -> Rows:
    """Return rows of norm 1; rows of zeros stay, with a finite gradient."""
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, _TINY))


def _relative_distances(x: Rows, both: Bool[Array, "n n"]) -> Float[Array, "n n"]:
    gram = _gram(x)
    squares = jnp.diagonal(gram)
    apart = squares[:, None] + squares[None, :] - 2.0 * gram
    # The root has no finite slope where two rows are the same.
    distances = jnp.where(both, jnp.sqrt(jnp.maximum(apart, _TINY)), 0.0)
    return distances / jnp.maximum(_mean(distances, both), _TINY**0.5)


def _huber(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    size = jnp.abs(x)
    return jnp.where(size <= 1.0, 0.5 * jnp.square(x), size - 0.5)


def _log_affinity(x: Rows, both: Bool[Array, "n n"]) -> Float[Array, "n n"]:
    affinity = jnp.where(both, 0.5 * (1.0 + _gram(_unit(x))), 0.0)
    affinity = jnp.maximum(affinity, 1e-6)
    total = jnp.sum(jnp.where(both, affinity, 0.0), axis=1, keepdims=True)
    return jnp.log(affinity) - jnp.log(jnp.maximum(total, 1e-6))
