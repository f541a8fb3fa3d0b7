"""Continuation of rows token by token, with a cache of keys and values."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from models import layer_attention
from models.attention import Rotation
from models.block import Block
from models.transformer import Transformer

Cache = tuple[jax.Array, jax.Array]
Choose = Callable[[jax.Array, jax.Array], jax.Array]
"""`(logits [b v], step) -> ids [b]`: the next token of each row."""


def continue_rows(
    model: Transformer,
    prompts: Int[Array, "b p"],
    lengths: Int[Array, " b"],
    *,
    limits: Int[Array, " b"],
    num_tokens: int,
    slots: int,
    choose: Choose,
    ends: tuple[int, ...],
) -> tuple[Int[Array, "b n"], Int[Array, " b"]]:
    """Return the tokens after each prompt, and how many each row has of its own.

    A row ends with one of `ends`, which is its last token, or at its limit; after that
    it repeats its last token. The loop ends with the last row that goes on.

    Args:
      model: any `Transformer`.
      prompts: row i padded on the right beyond `lengths[i]`.
      lengths: at least 1.
      limits: the most tokens that each row gets; 0 is none.
      num_tokens: n, the most that any row gets.
      slots: positions in the cache; a row that ends earlier may lie beyond.
      choose: the next tokens.
      ends: ids that end a row.
    """
    model.check_length(slots)
    # Prompts: fill the caches, keep the hidden state of each row's last token.
    rows, longest = prompts.shape
    positions = jnp.broadcast_to(jnp.arange(longest), prompts.shape)
    caches = _empty_caches(model, rows, slots)
    hidden, caches = _forward(model, prompts, positions, caches)
    hidden = hidden[jnp.arange(rows), lengths - 1]

    def goes_on(carry: Any) -> jax.Array:
        step, done = carry[0], carry[4]
        return (step < num_tokens) & ~jnp.all(done)

    def advance(carry: Any) -> Any:
        step, hidden, caches, before, done, tokens, counts = carry
        chosen = choose(model.head(hidden), step).astype(prompts.dtype)
        chosen = jnp.where(done, before, chosen)
        counts = counts + jnp.where(done, 0, 1)
        done |= jnp.isin(chosen, jnp.asarray(ends, chosen.dtype)) | (counts >= limits)
        tokens = jax.lax.dynamic_update_index_in_dim(tokens, chosen, step, axis=1)
        positions = (lengths + step)[:, None]
        hidden, caches = _forward(model, chosen[:, None], positions, caches)
        return step + 1, hidden[:, 0], caches, chosen, done, tokens, counts

    # One token a step, all rows together.
    none = jnp.zeros((rows,), prompts.dtype)
    tokens = jnp.zeros((rows, num_tokens), prompts.dtype)
    counts = jnp.zeros((rows,), jnp.int32)
    start = (jnp.int32(0), hidden, caches, none, limits <= 0, tokens, counts)
    steps, _, _, last, _, tokens, counts = jax.lax.while_loop(goes_on, advance, start)
    within = jnp.arange(num_tokens) < steps
    return jnp.where(within[None], tokens, last[:, None]), counts


def _forward(
    model: Transformer, tokens: jax.Array, positions: jax.Array, caches: Cache
) -> tuple[jax.Array, Cache]:
    """Return hidden states `[b t d]` of `tokens` at `positions`, and the new caches."""
    x = model.embed(tokens, positions)
    of_kinds = [
        {"rotation": model.rotation(positions, kind), "window": kind.window}
        for kind in model.attention_kinds
    ]

    def step(block: Block, x: jax.Array, inputs: Any) -> tuple[jax.Array, Cache]:
        cache, kind = inputs
        run = functools.partial(_run_block, block, positions=positions)
        branches = [functools.partial(run, **fields) for fields in of_kinds]
        return layer_attention.run_one(kind, branches, x, cache)

    x, caches = model.blocks.run(step, x, (caches, model.kinds_by_layer()))
    return model.norm(x), caches


def _run_block(
    block: Block,
    x: jax.Array,
    cache: Cache,
    *,
    rotation: Rotation | None,
    positions: jax.Array,
    window: int | None,
) -> tuple[jax.Array, Cache]:
    query, key, value = block.project(x, rotation)
    row = jnp.arange(x.shape[0])[:, None]
    # A row's padding is overwritten before any query comes late enough to see it.
    keys, values = (
        old.at[row, positions].set(new)
        for old, new in zip(cache, (key, value), strict=True)
    )
    slots = jnp.arange(keys.shape[1])
    behind = positions[..., None] - slots[None, None]
    mask = behind >= 0
    if window is not None:
        mask &= behind < window
    mixed = block.attention.attend(query, keys, values, mask)
    x, _ = block.add(x, mixed)
    return x, (keys, values)


def _empty_caches(model: Transformer, rows: int, length: int) -> Cache:
    """Return zeros by layer, see `models.layers`."""
    shape = (rows, length, model.num_kv_heads, model.head_dim)
    zeros = jnp.zeros(shape, model.dtype)
    return model.blocks.repeated((zeros, zeros))
