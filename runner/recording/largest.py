"""Largest entries of long rows, on devices that would sort whole rows for them."""

import math

import jax
import jax.numpy as jnp

from models import sharding


def largest(rows: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Return `jax.lax.top_k(rows, k)`, of rows `[*b v]`.

    A CPU picks them out of the row. XLA for a GPU sorts it whole, and what is sorted
    there is shorter by groups.
    """
    if sharding.platform() == "cpu":
        return jax.lax.top_k(rows, k)
    return by_groups(rows, k)


def by_groups(rows: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Return `jax.lax.top_k(rows, k)`, equal entries in the same order.

    The k largest entries are in the k groups whose largest entries are largest: of
    49,152 entries and k = 64, 1,536 groups and then 2,048 entries are sorted.
    """
    entries = rows.shape[-1]
    size = 2 ** max(0, round(math.log2(entries / k) / 2))
    count = math.ceil(entries / size)
    if size == 1 or count <= k:
        return jax.lax.top_k(rows, k)
    padding = [(0, 0)] * (rows.ndim - 1) + [(0, count * size - entries)]
    padded = jnp.pad(rows, padding, constant_values=-jnp.inf)
    groups = padded.reshape(*rows.shape[:-1], count, size)

    # In the order of the row: of equal entries the first one counts.
    _, chosen = jax.lax.top_k(jnp.max(groups, axis=-1), k)
    chosen = jnp.sort(chosen, axis=-1)
    candidates = jnp.take_along_axis(groups, chosen[..., None], axis=-2)
    values, places = jax.lax.top_k(candidates.reshape(*rows.shape[:-1], -1), k)
    group = jnp.take_along_axis(chosen, places // size, axis=-1)
    return values, group * size + places % size
