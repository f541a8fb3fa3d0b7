"""Continuation of rows token by token: where one has ended, the next one begins."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.decoding.cached import Cache, empty_cache, read_prompts, read_tokens
from models.transformer import Transformer

Choose = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(logits [b v], rows [b], steps [b]) -> ids [b]`: the next token of each row."""


class _Places(NamedTuple):
    """The rows that go on at a time, b of n; n stands for none.

    Attributes:
      rows: which.
      starts: tokens that each has in the cache.
      hidden: of its last token.
      cache: of all of them.
      begun: rows that have had a place.
      tokens: that all rows have got.
      counts: how many.
    """

    rows: Int[Array, " b"]
    starts: Int[Array, " b"]
    hidden: Float[Array, "b d"]
    cache: Cache
    begun: Int[Array, ""]
    tokens: Int[Array, "n t"]
    counts: Int[Array, " n"]


def continue_rows(
    model: Transformer,
    prompts: Int[Array, "n p"],
    lengths: Int[Array, " n"],
    *,
    limits: Int[Array, " n"],
    num_tokens: int,
    slots: int,
    choose: Choose,
    ends: tuple[int, ...],
    at_once: int | None = None,
) -> tuple[Int[Array, "n t"], Int[Array, " n"]]:
    """Return the tokens after each prompt, and how many each row has of its own.

    A row ends with one of `ends`, which is its last token, or at its limit; after that
    it repeats its last token. Its place is then the next row's, whose prompt is read
    alone; the loop ends with the last row. What a row gets depends on itself, and not
    on its place nor on the rows beside it.

    Args:
      model: any `Transformer`.
      prompts: row i padded on the right beyond `lengths[i]`.
      lengths: at least 1.
      limits: the most tokens that each row gets; 0 is none.
      num_tokens: t, the most that any row gets.
      slots: the most tokens of a row, prompt included.
      choose: the next tokens; those of rows that have ended do not matter.
      ends: ids that end a row.
      at_once: b, rows that go on at a time; None for all, whose prompts are read
        together.
    """
    model.check_length(slots)
    rows = prompts.shape[0]
    size = rows if at_once is None else min(at_once, rows)
    cache = empty_cache(model, size, max(slots, prompts.shape[1]))
    order = jnp.argsort(limits <= 0, stable=True)  # those that get tokens first
    wanted = jnp.sum(limits > 0)
    places = _Places(
        rows=jnp.full((size,), rows),
        starts=jnp.zeros((size,), jnp.int32),
        hidden=jnp.zeros((size, model.dim), model.dtype),
        cache=cache,
        begun=jnp.zeros_like(wanted),
        tokens=jnp.zeros((rows, num_tokens), prompts.dtype),
        counts=jnp.zeros((rows,), jnp.int32),
    )
    if size == rows:
        hidden, cache = read_prompts(model, prompts, lengths, cache)
        places = places._replace(
            rows=jnp.where(limits > 0, jnp.arange(rows), rows),
            starts=jnp.where(limits > 0, lengths, 0),
            hidden=hidden,
            cache=cache,
            begun=wanted,
        )

    def has_room(places: _Places) -> Bool[Array, ""]:
        return (places.begun < wanted) & jnp.any(places.rows == rows)

    def fill(places: _Places) -> _Places:
        """Give the first free place to the next row."""
        row, place = order[places.begun], jnp.argmax(places.rows == rows)
        prompt = jax.lax.dynamic_slice_in_dim(prompts, row, 1)
        length = lengths[row]
        hidden, cache = read_prompts(model, prompt, length[None], places.cache, place)
        return places._replace(
            rows=places.rows.at[place].set(row),
            starts=places.starts.at[place].set(length),
            hidden=jax.lax.dynamic_update_slice(places.hidden, hidden, (place, 0)),
            cache=cache,
            begun=places.begun + 1,
        )

    def go_on(places: _Places) -> bool | jax.Array:
        return jnp.any(places.rows < rows) | (places.begun < wanted)

    def advance(places: _Places) -> _Places:
        if size < rows:
            places = jax.lax.while_loop(has_room, fill, places)
        steps = places.counts.at[places.rows].get(mode="fill", fill_value=0)
        row = jnp.minimum(places.rows, rows - 1)
        chosen = choose(model.head(places.hidden), row, steps).astype(prompts.dtype)
        tokens = places.tokens.at[places.rows, steps].set(chosen, mode="drop")
        counts = places.counts.at[places.rows].add(1, mode="drop")
        done = jnp.isin(chosen, jnp.asarray(ends, chosen.dtype))
        done |= steps + 1 >= jnp.minimum(limits[row], num_tokens)
        done |= places.rows == rows
        hidden, cache = read_tokens(model, chosen, places.starts, places.cache)
        return _Places(
            rows=jnp.where(done, rows, places.rows),
            starts=jnp.where(done, 0, places.starts + 1),
            hidden=hidden,
            cache=cache,
            begun=places.begun,
            tokens=tokens,
            counts=counts,
        )

    # One token a step, all places together.
    places = jax.lax.while_loop(go_on, advance, places)
    last = jnp.maximum(places.counts - 1, 0)
    own = jnp.minimum(jnp.arange(num_tokens)[None], last[:, None])
    return jnp.take_along_axis(places.tokens, own, axis=1), places.counts
