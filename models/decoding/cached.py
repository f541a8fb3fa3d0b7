"""A Transformer over new tokens, with a cache of the keys and values before them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models import layer_attention
from models.attention import Rotation
from models.block import Block
from models.transformer import Transformer

CHUNK = 32
"""Tokens of a prompt that are read at a time."""

Cache = tuple[Any, Any]
"""Keys and values, each `[b kv_heads s head_dim]` by layer (see `models.layers`).

Of latents the first holds these, `[b 1 s kv_rank+rope_dim]`, and the second nothing.
"""

Write = Callable[[jax.Array, jax.Array], jax.Array]
"""`(cache [b g s d], new [c g t d]) -> cache`."""
Read = Callable[[jax.Array], jax.Array]
"""`cache [b g s d] -> [c g s d]`: that of the rows of the new tokens."""


def empty_cache(model: Transformer, rows: int, length: int) -> Cache:
    """Return zeros for rows of so many tokens, and for the padding of a chunk."""
    size = -(-length // CHUNK) * CHUNK

    heads, *widths = model.cached
    keys, values = (
        jnp.zeros((rows, heads, size, width), model.dtype) for width in widths
    )
    return model.blocks.repeated((keys, values))


def read_prompts(
    model: Transformer,
    prompts: Int[Array, "c p"],
    lengths: Int[Array, " c"],
    cache: Cache,
    rows: Int[Array, " c"] | None = None,
) -> tuple[Float[Array, "c d"], Cache]:
    """Return the hidden state of each prompt's last token, and the cache with prompts.

    Args:
      model: any `Transformer`.
      prompts: row i padded on the right beyond `lengths[i]`.
      lengths: at least 1.
      cache: of at least as many rows.
      rows: of the cache, one a prompt; one beyond it is of none. None for the first.
    """
    count, longest = prompts.shape
    prompts = jnp.pad(prompts, ((0, 0), (0, -longest % CHUNK)))
    last = lengths - 1

    def of_rows(cache: jax.Array) -> jax.Array:
        return cache[:count] if rows is None else jnp.take(cache, rows, 0, mode="clip")

    # In chunks, as far as the longest goes. What padding writes is overwritten before
    # any token comes late enough to see it.
    def read(index: jax.Array, carry: Any) -> Any:
        hidden, cache = carry
        start = index * CHUNK
        tokens = jax.lax.dynamic_slice_in_dim(prompts, start, CHUNK, axis=1)

        def write(cache: jax.Array, new: jax.Array) -> jax.Array:
            if rows is None:
                return jax.lax.dynamic_update_slice(cache, new, (0, 0, start, 0))
            slots = start + jnp.arange(CHUNK)
            at = rows[:, None], slots[None]
            return cache.at[at[0], :, at[1]].set(jnp.moveaxis(new, 1, 2), mode="drop")

        starts = jnp.broadcast_to(start, (count,))
        x, cache = _forward(model, tokens, starts, lengths, cache, write, of_rows)
        ends = x[jnp.arange(count), last % CHUNK]
        return jnp.where((last // CHUNK == index)[:, None], ends, hidden), cache

    hidden = jnp.zeros((count, model.dim), model.dtype)
    return jax.lax.fori_loop(0, jnp.max(last) // CHUNK + 1, read, (hidden, cache))


def read_tokens(
    model: Transformer, tokens: Int[Array, " b"], start: Int[Array, " b"], cache: Cache
) -> tuple[Float[Array, "b d"], Cache]:
    """Return the hidden state of one more token a row, and the cache with it.

    Args:
      model: any `Transformer`.
      tokens: of every row of the cache.
      start: tokens that each row has in the cache.
      cache: of those.
    """
    rows = jnp.arange(tokens.shape[0])

    def write(cache: jax.Array, new: jax.Array) -> jax.Array:
        return cache.at[rows, :, start].set(new[:, :, 0])

    x, cache = _forward(
        model, tokens[:, None], start, start + 1, cache, write, lambda x: x
    )
    return x[:, 0], cache


def _forward(
    model: Transformer,
    tokens: Int[Array, "c t"],
    start: Int[Array, " c"],
    lengths: Int[Array, " c"],
    cache: Cache,
    write: Write,
    read: Read,
) -> tuple[Float[Array, "c t d"], Cache]:
    """Return what the head reads of `tokens`, and the cache with them."""
    positions = start[:, None] + jnp.arange(tokens.shape[1])[None]
    x = model.embed(tokens, positions)
    slots = jnp.arange(jax.tree.leaves(cache)[0].shape[-2])
    behind = positions[..., None] - slots[None, None]
    of_kinds = [
        {
            "rotation": model.rotation(positions, kind, lengths),
            "mask": _seen(behind, kind.window),
        }
        for kind in model.attention_kinds
    ]

    def step(block: Block, x: jax.Array, inputs: Any) -> tuple[jax.Array, Cache]:
        cache, kind = inputs
        run = functools.partial(_run_block, block, write=write, read=read)
        branches = [functools.partial(run, **fields) for fields in of_kinds]
        return layer_attention.run_one(kind, branches, x, cache)

    x, cache = model.blocks.run(step, x, (cache, model.kinds_by_layer()))
    return model.read_out(x), cache


def _seen(behind: Int[Array, "c t s"], window: int | None) -> Bool[Array, "c t s"]:
    """Return which positions of the cache each new token sees: not those to come."""
    mask = behind >= 0
    return mask if window is None else mask & (behind < window)


def _run_block(
    block: Block,
    x: jax.Array,
    cache: tuple[jax.Array, jax.Array],
    *,
    rotation: Rotation | None,
    mask: jax.Array,
    write: Write,
    read: Read,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    query, key, value = block.project_cached(x, rotation)
    keys, values = (
        write(old, jnp.moveaxis(new, 1, 2))
        for old, new in zip(cache, (key, value), strict=True)
    )
    mixed = block.attention.attend_cached(query, read(keys), read(values), mask)
    x, _ = block.add(x, mixed)
    return x, (keys, values)
