"""The head and its gradients by tiles of the vocabulary, for some tokens.

    tiles: head forward, sums of the losses
      -> the losses of these sums, and their gradients
      -> tiles again: the gradients of the head

Logits are kept in between, or made again: then what is as large as they are exists a
tile at a time.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import losses
from runner.head.gradient_filter import large
from runner.head.head import Head
from runner.head.token_blocks import wide
from runner.head.vocab_partition import VocabPartition

Tree = Any


@dataclasses.dataclass(frozen=True)
class Tiles:
    """The vocabulary of a student, and of the teacher beside it, by tiles.

    teacher: `(cut, start, width) -> [*b n]`, or None where it has no such logits.
    """

    head: Head
    variables: Tree
    cut: VocabPartition
    teacher: Callable[[VocabPartition, Any, int], jax.Array] | None

    def over(
        self, body: Callable[..., tuple[Tree, Tree]], carry: Tree, *, given: Tree = None
    ) -> tuple[Tree, Tree]:
        """`carry, out = body(carry, start, width, given)` over every tile.

        Returns the last carry, and every `out`: what `given` may be another time.
        """
        cut = self.cut
        whole, rest = (None, None) if given is None else given

        def step(carry: Tree, tile: Tree) -> tuple[Tree, Tree]:
            number, given = tile
            return body(carry, number * cut.width, cut.width, given)

        numbers = jnp.arange(cut.whole_tiles)
        carry, outs = jax.lax.scan(step, carry, (numbers, whole))
        if not cut.rest:
            return carry, (outs, None)
        carry, out = body(carry, cut.whole_tiles * cut.width, cut.rest, rest)
        return carry, (outs, out)

    def tile(self, student: jax.Array, start: Any, width: int) -> losses.Tile:
        """A tile whose student logits are made."""
        return losses.Tile(
            ids=self.cut.ids(start, width),
            student=student,
            teacher=self.teacher and self.teacher(self.cut, start, width),
        )


def gradients(
    tiles: Tiles,
    value: Callable[[Any, Tree], tuple[jax.Array, Tree]],
    *,
    leaves: list[jax.Array],
    hidden: jax.Array,
    seen: Tree,
    d_leaves: list[jax.Array],
    keep: bool,
    least: jax.Array | None,
    varying: Callable[[Tree], Tree],
) -> tuple[list[jax.Array], jax.Array, Tree, Tree]:
    """Gradients of `value(sums, seen)[0]`.

    Args:
      value: of `losses.core.vocab_sums.Sums`, and of what else is differentiated;
        `(total, what is to be known of it)`.
      leaves: what the head reads.
      hidden: `[*b d]`.
      d_leaves: what the gradients in `leaves` are added to.
      keep: whether logits are kept from the first pass to the second; else they are
        made twice. The head's gradient must not need them (`Head.is_linear`).
      least: entries of the logits' gradient below it are taken as zero, if any are.
      varying: types fresh arrays as differing between devices, where they do.

    Returns:
      (d_leaves, d hidden in float32, d seen, what is to be known).
    """
    requests = losses.SumRequests(hidden.shape[:-1])
    value(requests, seen)

    def collect(
        state: Tree, start: Any, width: int, given: None
    ) -> tuple[Tree, losses.Tile | None]:
        del given
        taken = tiles.head.tile(leaves, tiles.cut, start, width)
        logits = tiles.head(taken, tiles.variables, hidden)
        tile = tiles.tile(logits, start, width)
        return requests.updated(state, tile), tile if keep else None

    state, kept = tiles.over(collect, varying(requests.start()))
    found = requests.found(state)
    total, pullback, known = jax.vjp(
        lambda found, seen: value(requests.answers(found), seen),
        found,
        seen,
        has_aux=True,
    )
    d_found, d_seen = pullback(jnp.ones_like(total))

    def push(
        carry: Tree, start: Any, width: int, tile: losses.Tile | None
    ) -> tuple[Tree, None]:
        d_leaves, d_hidden = carry
        taken = tiles.head.tile(leaves, tiles.cut, start, width)
        logits, pullback = jax.vjp(
            lambda taken, hidden: tiles.head(taken, tiles.variables, hidden),
            [x.astype(wide(x.dtype)) for x in taken],
            hidden,
        )
        seen = tiles.tile(logits, start, width) if tile is None else tile
        d_logits = jax.grad(
            lambda logits: requests.tangent(
                seen._replace(student=logits), state, found, d_found
            )
        )(seen.student)

        def added(d_logits: jax.Array) -> Tree:
            d_taken, more = pullback(d_logits)
            return (
                tiles.head.tile_added(d_leaves, d_taken, tiles.cut, start),
                d_hidden + more.astype(jnp.float32),
            )

        if least is None:
            return added(d_logits), None
        d_logits = large(d_logits, least)
        none = jnp.logical_not(jnp.any(d_logits))
        return jax.lax.cond(none, lambda _: carry, added, d_logits), None

    d_hidden = varying(jnp.zeros(hidden.shape, jnp.float32))
    (d_leaves, d_hidden), _ = tiles.over(
        push, (d_leaves, d_hidden), given=kept if keep else None
    )
    return d_leaves, d_hidden, d_seen, known
