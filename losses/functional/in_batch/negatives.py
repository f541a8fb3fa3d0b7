"""InfoNCE and Soft-InfoNCE, with the other rows of the batch as negatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.functional.in_batch.pairs import Numbers, values

Rows = Float[Array, "n d"]
There = Bool[Array, " n"] | None
Scalar = Float[Array, ""]


def info_nce(
    queries: Rows,
    keys: Rows,
    there: There = None,
    *,
    temperature: float = 0.05,
    similar: tuple[Float[Array, "n e"], Float[Array, "n e"]] | None = None,
    alpha: float = 0.0,
    beta: float = 1.0,
    floor: float = 0.1,
) -> Scalar:
    """Return `-mean_i log(e^{s_ii} / (e^{s_ii} + Σ_{j≠i} w_ij e^{s_ij}))`, nats.

    `s_ij = q_i · k_j / T`. With `alpha = 0` every w is 1; else
    `w_ij = max((β - α p_ij) / (β - α/K), floor)` with `p_ij` the softmax over the K
    others of `r_i · r'_j`, and 1 if `β = α/K`. A block of
    rows is compared with a block at a time: no array of all pairs is made.

    Source: van den Oord et al. 2018 (arXiv:1807.03748), eq. 4; w: Li et al. 2023,
    Soft-InfoNCE (arXiv:2310.08069).

    Args:
      queries: q.
      keys: k, row i beside query i.
      there: the rows that count.
      temperature: T.
      similar: r and r', without a gradient; for `alpha` alone.
      alpha: α.
      beta: β.
      floor: the least weight.
    """
    counts = jnp.ones(len(queries), bool) if there is None else there
    if alpha and similar is None:
        raise ValueError("alpha weighs negatives by `similar`, and that is None")
    weighted = jax.lax.stop_gradient(similar) if alpha else None
    numbers = Numbers(*(jnp.float32(x) for x in (temperature, alpha, beta, floor)))
    count = jnp.sum(counts, dtype=jnp.float32)
    of_rows = values(queries, keys, weighted, counts, numbers)
    return jnp.sum(jnp.where(counts, of_rows, 0.0)) / jnp.maximum(count, 1.0)
