"""Token blocks: a function of tokens, summed over all of them, a block at a time.

The arrays of a block are `[block, ...]` (or `[rows, T, ...]` for whole sequences), so
nothing of the size `[tokens, vocabulary]` ever exists. On a mesh, each device scans
its own tokens and the sums are added once, after the scan: the batch axes are manual
(`shard_map`), the tensor axis stays automatic.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from runner.machine.mesh import BATCH_AXES

Tree = Any


@dataclasses.dataclass(frozen=True)
class TokenBlocks:
    """How the token axes `*b` of a batch are cut.

    size:  tokens in a block.
    whole: keep sequences whole (blocks of rows), for losses that see sequences.
    """

    mesh: jax.sharding.Mesh
    token_axes: tuple[int, ...]
    size: int
    whole: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """Mesh axes that the tokens are spread over; sums are added along them."""
        return tuple(axis for axis in BATCH_AXES if self.mesh.shape[axis] > 1)

    def varying(self, tree: Tree) -> Tree:
        """Arrays made within a block, typed as differing between devices."""
        if not self.axes:
            return tree
        return jax.tree.map(lambda x: jax.lax.pcast(x, self.axes, to="varying"), tree)

    def _added_up(self, total: Tree) -> Tree:
        return jax.lax.psum(total, self.axes) if self.axes else total

    def sums(
        self, fn: Callable[[Tree, Tree], Tree], shared: Tree, tokens: Tree
    ) -> Tree:
        """`Σ_blocks fn(shared, block)`, over all tokens of all devices."""

        def local(shared: Tree, tokens: Tree) -> Tree:
            def body(total: Tree, block: Tree) -> tuple[Tree, None]:
                return added_trees(total, fn(shared, block)), None

            total, _ = self._scan(lambda block: fn(shared, block), body, tokens)
            return self._added_up(total)

        return self._manual(local, PartitionSpec())(shared, tokens)

    def each(
        self, fn: Callable[[Tree, Tree], Tree], shared: Tree, tokens: Tree
    ) -> Tree:
        """`fn(shared, block)` of every block, joined: arrays `[*b ...]`."""

        def local(shared: Tree, tokens: Tree) -> Tree:
            blocks = jax.tree.map(self._cut, tokens)
            _, found = jax.lax.scan(
                lambda _, block: (None, fn(shared, block)), None, blocks
            )
            axes = jax.tree.leaves(tokens)[0].shape[: len(self.token_axes)]
            return self._joined(found, axes)

        return self._manual(local, self._spread)(shared, tokens)

    def gradients(
        self,
        fn: Callable[[Tree, Tree, Tree, Tree], tuple[jax.Array, Tree]],
        shared: Tree,
        tokens: Tree,
        fixed_shared: Tree,
        fixed_tokens: Tree,
    ) -> tuple[tuple[Tree, Tree], Tree]:
        """Gradients of `Σ_blocks fn(...)[0]`, and the sums of `fn(...)[1]`.

        Each block runs forward and backward before the next, so nothing is kept and
        nothing is computed twice.

        Returns:
          ((sums, d shared), d tokens); only `shared` and `tokens` are differentiated.
        """

        def of_block(given: Tree, block: Tree) -> tuple[tuple[Tree, Tree], Tree]:
            (d_shared, d_tokens), sums = jax.grad(fn, argnums=(0, 1), has_aux=True)(
                given[0], block[0], given[1], block[1]
            )
            return (sums, d_shared), d_tokens

        def added(total: Tree, given: Tree, block: Tree) -> tuple[Tree, Tree]:
            more, d_tokens = of_block(given, block)
            return added_trees(total, more), d_tokens

        return self.accumulated(
            added,
            lambda given, block: of_block(given, block)[0],
            (shared, fixed_shared),
            (tokens, fixed_tokens),
        )

    def accumulated(
        self,
        fn: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
        like: Callable[[Tree, Tree], Tree],
        shared: Tree,
        tokens: Tree,
    ) -> tuple[Tree, Tree]:
        """The last total of `total, out = fn(total, shared, block)`, and every `out`.

        Totals start from zeros like what `like(shared, block)` has, in float32 at
        least; those of all devices are added.
        """

        def local(shared: Tree, tokens: Tree) -> tuple[Tree, Tree]:
            def body(total: Tree, block: Tree) -> tuple[Tree, Tree]:
                return fn(total, shared, block)

            total, out = self._scan(lambda block: like(shared, block), body, tokens)
            axes = jax.tree.leaves(tokens)[0].shape[: len(self.token_axes)]
            return self._added_up(total), self._joined(out, axes)

        out = (PartitionSpec(), self._spread)
        return self._manual(local, out)(shared, tokens)

    def _manual(self, local: Callable, out: Any) -> Callable:
        """`local` over each device's tokens, with all it shares made varying."""
        if not self.axes:
            return local

        def varying(shared: Tree, tokens: Tree) -> Tree:
            return local(self.varying(shared), tokens)

        return jax.shard_map(
            varying,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), self._spread),
            out_specs=out,
            axis_names=set(self.axes),
        )

    @property
    def _spread(self) -> PartitionSpec:
        return PartitionSpec(self.axes)

    def _scan(
        self, summed: Callable, body: Callable, tokens: Tree
    ) -> tuple[Tree, Tree]:
        blocks = jax.tree.map(self._cut, tokens)
        first = jax.tree.map(lambda x: x[0], blocks)
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, wide(x.dtype)), jax.eval_shape(summed, first)
        )
        return jax.lax.scan(body, self.varying(zeros), blocks)

    def _units(self, shape: Sequence[int]) -> tuple[int, int]:
        """Units on this device, and units in a block: tokens, or rows of tokens."""
        tokens_in_unit = math.prod(self.token_axes[1:]) if self.whole else 1
        units = math.prod(shape[: len(self.token_axes)]) // tokens_in_unit
        count = max(1, math.ceil(units * tokens_in_unit / self.size))
        return units, math.ceil(units / count)

    def _cut(self, x: jax.Array) -> jax.Array:
        """`[*b ...]` to `[blocks, block, ...]`, padded with zeros at the end."""
        units, block = self._units(x.shape)
        kept = 1 if self.whole else len(self.token_axes)
        flat = x.reshape((units, *x.shape[kept:]))
        count = math.ceil(units / block)
        padding = [(0, count * block - units)] + [(0, 0)] * (flat.ndim - 1)
        return jnp.pad(flat, padding).reshape((count, block, *flat.shape[1:]))

    def _joined(self, blocks: Tree, axes: tuple[int, ...]) -> Tree:
        """`_cut` undone: `[blocks, block, ...]` to `[*b ...]`, `*b` being `axes`."""
        of_block = len(self.token_axes) if self.whole else 1

        def joined(x: jax.Array) -> jax.Array:
            shape = (*axes, *x.shape[1 + of_block :])
            flat = x.reshape((-1, *x.shape[2:]))
            return flat[: self._units(shape)[0]].reshape(shape)

        return jax.tree.map(joined, blocks)


def added_trees(total: Tree, more: Tree) -> Tree:
    """`total + more`, leaf by leaf, in the dtypes of `total`."""
    return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, more)


def wide(dtype: Any) -> Any:
    """What sums of `dtype` are kept in: float32 at least."""
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.float32 if narrow else dtype


def accumulate(fn: Callable[[Tree], Tree], parts: Tree) -> Tree:
    """`Σ_i fn(parts[i])` over the first axis, one at a time."""
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(fn, first)
    )

    def body(total: Tree, part: Tree) -> tuple[Tree, None]:
        return added_trees(total, fn(part)), None

    return jax.lax.scan(body, zeros, parts)[0]
