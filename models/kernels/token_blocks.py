"""Position-wise functions over a block of tokens at a time, with little kept of each.

    y_i = fn(x_i) for each block i of tokens, forward and backward

Kept for the backward pass: `x`, and arrays to which `fn` gave the name `KEPT`. All else
is made again for one block at a time, inside a loop: there the compiler can neither
share it with the forward pass nor make it early, both of which would keep it alive.
"""

from collections.abc import Callable
from typing import Any

import jax

Tree = Any

KEPT = "kept"
"""For `jax.ad_checkpoint.checkpoint_name`."""
LARGEST, SMALLEST = 1024, 256


def size(tokens: int) -> int:
    """Return the tokens of a block, a divisor of all; all of them where none is."""
    sizes = range(LARGEST, SMALLEST - 1, -1)
    return next((n for n in sizes if tokens % n == 0), tokens)


def over_tokens(fn: Callable[..., Tree], *arrays: Tree) -> Tree:
    """Return `fn(*arrays)`, position-wise in trees of `[b t ...]`, in blocks of tokens.

    Args:
      fn: called with trees of `[1 block ...]`; returns one.
      *arrays: cut along both first axes.
    """
    batch, length = jax.tree.leaves(arrays)[0].shape[:2]
    block = size(batch * length)
    if block == batch * length:
        return fn(*arrays)

    def cut(x: jax.Array) -> jax.Array:
        return x.reshape(-1, 1, block, *x.shape[2:])

    def run(_: None, blocks: Tree) -> tuple[None, Tree]:
        return None, fn(*blocks)

    policy = jax.checkpoint_policies.save_only_these_names(KEPT)
    body = jax.checkpoint(run, policy=policy, prevent_cse=False)
    _, results = jax.lax.scan(body, None, jax.tree.map(cut, arrays))
    return jax.tree.map(lambda y: y.reshape(batch, length, *y.shape[3:]), results)
