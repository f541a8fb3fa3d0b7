"""A global batch behind its trunk, whole or a microbatch at a time.

With one microbatch the trunk runs once, whatever reads it. With several, only one is
held at a time, and every reading runs the trunk again.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from runner.head.token_blocks import accumulate
from runner.machine.mesh import batch_sharding
from runner.step.trunk_pass import StudentTrunk

Tree = Any
Reading = Callable[[StudentTrunk], Tree]
Forward = Callable[[Tree], StudentTrunk]


class Microbatches(abc.ABC):
    """Trunks, one a microbatch."""

    @abc.abstractmethod
    def sums(self, read: Reading, reweighted: Tree = ()) -> Tree:
        """`Σ_i read(trunk_i)`; `reweighted` as in `StudentTrunk`, or empty."""

    @abc.abstractmethod
    def each(self, read: Reading) -> Tree:
        """What `read` makes of every token, `[*b ...]`, put together again."""


class Whole(Microbatches):
    """One microbatch."""

    def __init__(self, forward: Forward, batch: Tree):
        self._trunk = forward(batch)

    def sums(self, read: Reading, reweighted: Tree = ()) -> Tree:
        return read(_with(self._trunk, reweighted))

    def each(self, read: Reading) -> Tree:
        return read(self._trunk)


@dataclasses.dataclass(frozen=True)
class Strided(Microbatches):
    """`count` of them: every count-th row, so that no row moves to another device."""

    forward: Forward
    batch: Tree
    count: int
    mesh: jax.sharding.Mesh

    def sums(self, read: Reading, reweighted: Tree = ()) -> Tree:
        def of_part(part: tuple[Tree, Tree]) -> Tree:
            batch, weights = part
            return read(_with(self.forward(batch), weights))

        return accumulate(of_part, jax.tree.map(self._cut, (self.batch, reweighted)))

    def each(self, read: Reading) -> Tree:
        def of_part(part: Tree) -> Tree:
            return read(self.forward(part))

        found = jax.lax.map(of_part, jax.tree.map(self._cut, self.batch))
        return jax.tree.map(self._joined, found)

    def _cut(self, x: jax.Array) -> jax.Array:
        """`[B ...]` to `[M, B/M, ...]`."""
        parts = jnp.moveaxis(x.reshape((-1, self.count, *x.shape[1:])), 1, 0)
        placed = PartitionSpec(None, *batch_sharding(self.mesh).spec)
        return jax.lax.with_sharding_constraint(parts, NamedSharding(self.mesh, placed))

    def _joined(self, parts: jax.Array) -> jax.Array:
        """`_cut` undone."""
        rows = jnp.moveaxis(parts, 0, 1)
        return rows.reshape((-1, *rows.shape[2:]))


def _with(trunk: StudentTrunk, reweighted: Tree) -> StudentTrunk:
    return trunk.reweighted(reweighted) if reweighted else trunk
