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
    16,384 entries and k = 64, 1,024 groups and then 1,024 entries are sorted.
    """
    entries = rows.shape[-1]
    size = 2 ** max(0, round(math.log2(entries / k) / 2))
    count = math.ceil(entries / size)
    if size == 1 or count <= k:
        return jax.lax.top_k(rows, k)
    groups = in_groups(rows, size)
    chosen, among = candidates(groups, jnp.max(groups, axis=-1), k)
    values, places = jax.lax.top_k(among, k)
    return values, ids(chosen, places, size)


def in_groups(rows: jax.Array, size: int) -> jax.Array:
    """Return `[*b groups size]` of rows `[*b v]`, filled up with -inf."""
    padding = [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % size)]
    padded = jnp.pad(rows, padding, constant_values=-jnp.inf)
    return padded.reshape(*rows.shape[:-1], -1, size)


def candidates(
    groups: jax.Array, largest_of_each: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """Return the `k` groups whose largest entries are largest, and their entries.

    An entry outside of them has one of each group before it, since groups are in the
    order of the row: of equal entries the first one counts.

    Args:
      groups: `[*b groups size]`.
      largest_of_each: `[*b groups]`.
      k: at most as many as there are groups.

    Returns:
      Numbers of groups `[*b k]`, ascending, and entries `[*b k * size]`.
    """
    _, chosen = jax.lax.top_k(largest_of_each, k)
    chosen = jnp.sort(chosen, axis=-1)
    among = jnp.take_along_axis(groups, chosen[..., None], axis=-2)
    return chosen, among.reshape(*chosen.shape[:-1], -1)


def ids(chosen: jax.Array, places: jax.Array, size: int) -> jax.Array:
    """Return the places in the row of places among the entries of chosen groups."""
    group = jnp.take_along_axis(chosen, places // size, axis=-1)
    return group * size + places % size
