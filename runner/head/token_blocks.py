"""Token blocks: a function of tokens, summed over all of them, a block at a time.

The arrays of a block are `[block, ...]` (or `[rows, T, ...]` for whole sequences), so
nothing of the size `[tokens, vocabulary]` ever exists. On a mesh, each device scans
its own tokens and the sums are added once, after the scan: the batch axes are manual
(`shard_map`), the tensor axis stays automatic.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from runner.machine.mesh import BATCH_AXES

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenBlocks:
    """A cut of the token axes `*b` of a batch into blocks.

    Attributes:
      mesh: devices that the batch is spread over.
      token_axes: `*b`.
      size: tokens in a block.
      whole_rows: keep sequences whole (blocks of rows), for losses that see sequences.
    """

    mesh: jax.sharding.Mesh
    token_axes: tuple[int, ...]
    size: int
    whole_rows: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """Mesh axes that the tokens are spread over; sums are added along them."""
        return tuple(axis for axis in BATCH_AXES if self.mesh.shape[axis] > 1)

    def varying(self, tree: Tree) -> Tree:
        """Type arrays made within a block as differing between devices."""
        if not self.axes:
            return tree
        return jax.tree.map(lambda x: jax.lax.pcast(x, self.axes, to="varying"), tree)

    def sum(self, fn: Callable[[Tree, Tree], Tree], shared: Tree, tokens: Tree) -> Tree:
        """Return `Σ_blocks fn(shared, block)`, over all tokens of all devices."""

        def local(shared: Tree, tokens: Tree) -> Tree:
            blocks = jax.tree.map(self._split, tokens)
            first = jax.tree.map(lambda x: x[0], blocks)
            zeros = zeros_like(jax.eval_shape(lambda block: fn(shared, block), first))

            def add(total: Tree, block: Tree) -> tuple[Tree, None]:
                return add_trees(total, fn(shared, block)), None

            total, _ = jax.lax.scan(add, self.varying(zeros), blocks)
            return self._psum(total)

        return self._manual(local, PartitionSpec())(shared, tokens)

    def map(self, fn: Callable[[Tree, Tree], Tree], shared: Tree, tokens: Tree) -> Tree:
        """Return `fn(shared, block)` of every block, joined: arrays `[*b ...]`."""

        def local(shared: Tree, tokens: Tree) -> Tree:
            blocks = jax.tree.map(self._split, tokens)
            _, outs = jax.lax.scan(
                lambda _, block: (None, fn(shared, block)), None, blocks
            )
            return self._join(outs, like=tokens)

        return self._manual(local, self._spread)(shared, tokens)

    def accumulate(
        self,
        fn: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
        like: Tree,
        shared: Tree,
        tokens: Tree,
    ) -> tuple[Tree, Tree]:
        """Run `total, out = fn(shared, total, block)` over all blocks.

        Each block runs before the next, so nothing is stored for a backward pass.

        Args:
          fn: forward and backward of one block.
          like: arrays of the shapes and dtypes of what is added up.
          shared: arrays that every block reads.
          tokens: arrays `[*b ...]`, cut into blocks.

        Returns:
          The last total, added over all devices, and every `out`, joined to `[*b ...]`.
        """

        def local(shared: Tree, tokens: Tree) -> tuple[Tree, Tree]:
            blocks = jax.tree.map(self._split, tokens)
            total, outs = jax.lax.scan(
                functools.partial(fn, shared), self.varying(zeros_like(like)), blocks
            )
            return self._psum(total), self._join(outs, like=tokens)

        out_specs = (PartitionSpec(), self._spread)
        return self._manual(local, out_specs)(shared, tokens)

    def _manual(self, local: Callable, out_specs: Any) -> Callable:
        """Run `local` over each device's tokens, with all it shares made varying."""
        if not self.axes:
            return local

        def varying(shared: Tree, tokens: Tree) -> Tree:
            return local(self.varying(shared), tokens)

        return jax.shard_map(
            varying,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), self._spread),
            out_specs=out_specs,
            axis_names=set(self.axes),
        )

    @property
    def _spread(self) -> PartitionSpec:
        return PartitionSpec(self.axes)

    def _psum(self, total: Tree) -> Tree:
        return jax.lax.psum(total, self.axes) if self.axes else total

    def _units(self, shape: Sequence[int]) -> tuple[int, int]:
        """Units on this device, and units in a block: tokens, or rows of tokens."""
        tokens_in_unit = math.prod(self.token_axes[1:]) if self.whole_rows else 1
        units = math.prod(shape[: len(self.token_axes)]) // tokens_in_unit
        count = max(1, math.ceil(units * tokens_in_unit / self.size))
        return units, math.ceil(units / count)

    def _split(self, x: jax.Array) -> jax.Array:
        """`[*b ...]` to `[blocks, block, ...]`, padded with zeros at the end."""
        units, block = self._units(x.shape)
        axes_in_unit = 1 if self.whole_rows else len(self.token_axes)
        flat = x.reshape((units, *x.shape[axes_in_unit:]))
        count = math.ceil(units / block)
        padding = [(0, count * block - units)] + [(0, 0)] * (flat.ndim - 1)
        return jnp.pad(flat, padding).reshape((count, block, *flat.shape[1:]))

    def _join(self, blocks: Tree, *, like: Tree) -> Tree:
        """`[blocks, block, ...]` to `[*b ...]`, `*b` being those of `like`."""
        axes = jax.tree.leaves(like)[0].shape[: len(self.token_axes)]
        axes_of_block = len(self.token_axes) if self.whole_rows else 1

        def join(x: jax.Array) -> jax.Array:
            shape = (*axes, *x.shape[1 + axes_of_block :])
            flat = x.reshape((-1, *x.shape[2:]))
            return flat[: self._units(shape)[0]].reshape(shape)

        return jax.tree.map(join, blocks)


def add_trees(total: Tree, more: Tree) -> Tree:
    """Return `total + more`, leaf by leaf, in the dtypes of `total`."""
    return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, more)


def zeros_like(tree: Tree) -> Tree:
    """Return zeros to add such arrays to, in float32 at least."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, sum_dtype(x.dtype)), tree)


def sum_dtype(dtype: Any) -> Any:
    """Return the dtype in which arrays of `dtype` are added: float32 at least."""
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.float32 if narrow else dtype
