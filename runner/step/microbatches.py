"""Accumulation: a function of microbatches, summed or collected by a `lax.scan`.

Microbatch i of M takes every M-th row from row i on, so that no row moves to another
device.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from runner.head.token_blocks import add_trees, zeros_like
from runner.machine.mesh import batch_sharding

Tree = Any
Part = TypeVar("Part")


def accumulate(
    fn: Callable[[Part], Tree],
    rows: Part,
    *,
    count: int,
    mesh: jax.sharding.Mesh,
) -> Tree:
    """Sum `fn` over the microbatches.

    Args:
      fn: of a microbatch, to arrays that add up.
      rows: arrays `[B ...]`.
      count: M; `fn` sees `rows` themselves where it is 1.
      mesh: where the rows are spread over the batch axes.

    Returns:
      `Σ_i fn(microbatch_i)`; of several, floats below 32 bits are added in float32.
    """
    if count == 1:
        return fn(rows)
    parts = jax.tree.map(lambda x: _split(x, count, mesh), rows)
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = zeros_like(jax.eval_shape(fn, first))

    def add(total: Tree, part: Part) -> tuple[Tree, None]:
        return add_trees(total, fn(part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def collect(
    fn: Callable[[Part], Tree],
    rows: Part,
    *,
    count: int,
    mesh: jax.sharding.Mesh,
) -> Tree:
    """Apply `fn` to each microbatch and join the results.

    Args:
      fn: of a microbatch, to arrays `[B/M ...]`.
      rows: as in `accumulate`.
      count: as in `accumulate`.
      mesh: as in `accumulate`.

    Returns:
      Arrays `[B ...]`, in the order of `rows`.
    """
    if count == 1:
        return fn(rows)
    parts = jax.tree.map(lambda x: _split(x, count, mesh), rows)
    return jax.tree.map(_join, jax.lax.map(fn, parts))


def _split(
    x: Shaped[Array, "b ..."], count: int, mesh: jax.sharding.Mesh
) -> Shaped[Array, "m n ..."]:
    """`[B ...]` to `[M, B/M, ...]`."""
    parts = jnp.moveaxis(x.reshape((-1, count, *x.shape[1:])), 1, 0)
    placed = PartitionSpec(None, *batch_sharding(mesh).spec)
    return jax.lax.with_sharding_constraint(parts, NamedSharding(mesh, placed))


def _join(parts: Shaped[Array, "m n ..."]) -> Shaped[Array, "b ..."]:
    """`[M, B/M, ...]` to `[B ...]`."""
    rows = jnp.moveaxis(parts, 0, 1)
    return rows.reshape((-1, *rows.shape[2:]))
