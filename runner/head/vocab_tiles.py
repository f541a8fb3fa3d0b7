"""The head and its gradients by tiles of the vocabulary, for some tokens.

    tiles: head forward, sums of the losses
      -> the losses of these sums, and their gradients
      -> tiles again: the gradients of the head

Logits are stored in between, or computed again: then what is as large as they are
exists a tile at a time.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from losses.core.tiles import Tile
from losses.core.vocab_sums import SumRequests, VocabSums
from losses.core.vocab_sums_pass import VocabSumsPass
from runner.head.gradient_filter import large
from runner.head.head import Head
from runner.head.vocab_partition import VocabPartition

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabTiles:
    """The vocabulary of a student, and of the teacher beside it, by tiles.

    Attributes:
      head: the student's.
      variables: the student's.
      partition: the vocabulary in tiles.
      teacher: `(partition, start, width) -> [*b n]`, its logits of a tile; None where
        it has none by tiles.
      counted: tokens whose logits count, bool `[*b 1]`; those of others may be NaN.
    """

    head: Head
    variables: Tree
    partition: VocabPartition
    teacher: Callable[[VocabPartition, Any, int], jax.Array] | None
    counted: jax.Array

    def scan(self, body: Callable[[Tree, Any, int], Tree], carry: Tree) -> Tree:
        """Return the carry after `carry = body(carry, start, width)` of every tile.

        The last tile may be narrower than the others.
        """
        partition = self.partition

        def step(carry: Tree, number: jax.Array) -> tuple[Tree, None]:
            return body(carry, number * partition.width, partition.width), None

        whole_tiles, rest = partition.tiles
        carry, _ = jax.lax.scan(step, carry, jnp.arange(whole_tiles))
        if not rest:
            return carry
        return body(carry, whole_tiles * partition.width, rest)

    def tile(self, student: jax.Array, start: Any, width: int) -> Tile:
        """Return a tile of both sides from the student's logits `[*b n]`."""
        teacher = self.teacher and self.teacher(self.partition, start, width)
        return self._tile(student, teacher, start, width)

    def part(self, stored: Tree, start: Any, width: int) -> Tile:
        """Return a tile of both sides' logits of the whole vocabulary."""
        student, teacher = jax.tree.map(
            lambda x: self.partition.slice(x, x.ndim - 1, start, width), stored
        )
        return self._tile(student, teacher, start, width)

    def _tile(
        self, student: jax.Array, teacher: jax.Array | None, start: Any, width: int
    ) -> Tile:
        if teacher is not None:
            teacher = jax.lax.stop_gradient(jnp.where(self.counted, teacher, 0.0))
        ids = self.partition.ids(start, width)
        return Tile(ids=ids, student=student, teacher=teacher)


def gradients(
    tiles: VocabTiles,
    value: Callable[[VocabSums, Tree], tuple[jax.Array, Tree]],
    *,
    params: list[jax.Array],
    hidden: jax.Array,
    others: Tree,
    d_params: list[jax.Array],
    store_logits: bool,
    threshold: jax.Array | None,
    varying: Callable[[Tree], Tree],
) -> tuple[list[jax.Array], jax.Array, Tree, Tree]:
    """Return the gradients of `value(sums, others)[0]`.

    Args:
      tiles: the vocabulary in tiles.
      value: of `losses.core.vocab_sums.VocabSums`, and of whatever else is
        differentiated, to `(total, auxiliary)`.
      params: what the head reads.
      hidden: `[*b d]`.
      others: the second argument of `value`.
      d_params: gradients that those of `params` are added to.
      store_logits: store logits from the first pass to the second; else they are
        computed twice. The head's gradient must not need them (`Head.is_linear`).
      threshold: entries of the logits' gradient below it are taken as zero, if any are.
      varying: types fresh arrays as differing between devices, where they do.

    Returns:
      `(d_params, d hidden in float32, d others, auxiliary)`.
    """
    model_head, partition = tiles.head, tiles.partition
    head = functools.partial(model_head, variables=tiles.variables)

    # Ask the losses, once, which sums they want.
    requests = SumRequests(hidden.shape[:-1])
    value(requests, others)
    sums_pass = VocabSumsPass(requests)

    # Stored logits are one product of each side, read by tiles: a scan that stacked its
    # tiles would fill an array of their size with zeros first.
    stored = None
    if store_logits:
        teacher = tiles.teacher and tiles.teacher(partition, 0, partition.piece)
        stored = head(params, hidden), teacher

    # First pass: head forward, and the sums online.
    def collect(state: Tree, start: Any, width: int) -> Tree:
        if stored is not None:
            return sums_pass.add_tile(state, tiles.part(stored, start, width))
        tile_params = model_head.tile(params, partition, start, width)
        tile = tiles.tile(head(tile_params, hidden), start, width)
        return sums_pass.add_tile(state, tile)

    d_hidden = jnp.zeros(hidden.shape, jnp.float32)
    zeros, d_hidden = varying((sums_pass.start(), d_hidden))
    state = tiles.scan(collect, zeros)

    # The losses of these sums, and their gradients.
    sums = sums_pass.results(state)
    total, pullback, auxiliary = jax.vjp(value, sums, others, has_aux=True)
    d_sums, d_others = pullback(jnp.ones_like(total))

    # Second pass: head backward.
    def push(carry: Tree, start: Any, width: int) -> Tree:
        # The head again: its logits are used only where none were stored.
        d_params, d_hidden = carry
        tile_params = model_head.tile(params, partition, start, width)
        logits, pullback = jax.vjp(
            head,
            [x.astype(d.dtype) for x, d in zip(tile_params, d_params, strict=True)],
            hidden,
        )
        if stored is None:
            tile = tiles.tile(logits, start, width)
        else:
            tile = tiles.part(stored, start, width)
        d_logits = jax.grad(
            lambda logits: sums_pass.tangent(
                tile._replace(student=logits), state, sums, d_sums
            )
        )(tile.student)

        def add(d_logits: jax.Array) -> Tree:
            d_tile, more = pullback(d_logits)
            return (
                model_head.add_tile(d_params, d_tile, partition, start),
                d_hidden + more.astype(jnp.float32),
            )

        # A tile whose gradients are all filtered costs no backward matmul.
        if threshold is None:
            return add(d_logits)
        d_logits = large(d_logits, threshold)
        none = jnp.logical_not(jnp.any(d_logits))
        return jax.lax.cond(none, lambda _: carry, add, d_logits)

    d_params, d_hidden = tiles.scan(push, (d_params, d_hidden))
    return d_params, d_hidden, d_others, auxiliary
