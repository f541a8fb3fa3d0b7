"""Continuation of rows token by token: where one has ended, the next one begins."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models import sharding
from models.decoding.cached import Cache, empty_cache, read_prompts, read_tokens
from models.transformer import Transformer

Choose = Callable[[Sequence[jax.Array], jax.Array, jax.Array], "Chosen"]
"""`(logits [b v] of each model, rows [b], steps [b]) -> Chosen`."""


TOGETHER = 8
"""One of so many places is to be free before prompts are read, all of these at once."""
MANY = 16
"""From so many places on, the last rows go on in a half of them, then in a quarter."""


class Chosen(NamedTuple):
    """The next token of each row.

    Attributes:
      ids: of the tokens.
      log_p: log-probability that each was drawn with, nats; None where none is asked.
    """

    ids: Int[Array, " b"]
    log_p: Float[Array, " b"] | None = None


class Continuations(NamedTuple):
    """The tokens after each prompt, with their number.

    Attributes:
      tokens: of rows that have ended, the last one again.
      counts: tokens that each row has of its own.
      log_p: as `Chosen`, of these; 0 of others.
    """

    tokens: Int[Array, "n t"]
    counts: Int[Array, " n"]
    log_p: Float[Array, "n t"] | None


class _Places(NamedTuple):
    """The rows that go on at a time, b of n; n stands for none.

    Attributes:
      rows: which.
      starts: tokens that each has in the cache.
      hidden: of its last token, in each model.
      caches: of all of them, in each model.
      begun: rows that have had a place.
      tokens: that all rows have got.
      counts: how many.
      log_p: as `Chosen`.
    """

    rows: Int[Array, " b"]
    starts: Int[Array, " b"]
    hidden: tuple[Float[Array, "b d"], ...]
    caches: tuple[Cache, ...]
    begun: Int[Array, ""]
    tokens: Int[Array, "n t"]
    counts: Int[Array, " n"]
    log_p: Float[Array, "n t"] | None


def continue_rows(
    models: Sequence[Transformer],
    prompts: Int[Array, "n p"],
    lengths: Int[Array, " n"],
    *,
    limits: Int[Array, " n"],
    num_tokens: int,
    slots: int,
    choose: Choose,
    ends: tuple[int, ...],
    at_once: int | None = None,
    with_log_p: bool = False,
) -> Continuations:
    """Return the tokens after each prompt.

    A row ends with one of `ends`, which is its last token, or at its limit; after that
    it repeats its last token. Its place is then another row's: prompts are read a few
    at a time, those of like lengths together; the loop ends with the last row. When no
    row waits, those that are left go on in fewer places. What a row gets depends on
    itself, and not on its place nor on the rows beside it.

    Args:
      models: that read the rows, each with a cache; one, or several whose outputs
        `choose` mixes.
      prompts: row i padded on the right beyond `lengths[i]`.
      lengths: at least 1.
      limits: the most tokens that each row gets; 0 is none.
      num_tokens: t, the most that any row gets.
      slots: the most tokens of a row, prompt included.
      choose: the next tokens; those of rows that have ended do not matter.
      ends: ids that end a row.
      at_once: b, rows that go on at a time; None for all, whose prompts are read
        together.
      with_log_p: whether `choose` says with what probability each token was drawn.
    """
    for model in models:
        model.check_length(slots)
    rows = prompts.shape[0]
    size = rows if at_once is None else min(at_once, rows)
    longest = max(slots, prompts.shape[1])
    # Those that get tokens first, of them the shortest prompts.
    order = jnp.lexsort((lengths, limits <= 0))
    together = max(1, size // TOGETHER)
    wanted = jnp.sum(limits > 0)
    places = _Places(
        rows=jnp.full((size,), rows),
        starts=jnp.zeros((size,), jnp.int32),
        hidden=tuple(jnp.zeros((size, x.dim), x.dtype) for x in models),
        caches=tuple(empty_cache(x, size, longest) for x in models),
        begun=jnp.zeros_like(wanted),
        tokens=jnp.zeros((rows, num_tokens), prompts.dtype),
        counts=jnp.zeros((rows,), jnp.int32),
        log_p=jnp.zeros((rows, num_tokens), jnp.float32) if with_log_p else None,
    )
    if size == rows:
        hidden, caches = _each(
            lambda model, cache: read_prompts(model, prompts, lengths, cache),
            models,
            places.caches,
        )
        places = places._replace(
            rows=jnp.where(limits > 0, jnp.arange(rows), rows),
            starts=jnp.where(limits > 0, lengths, 0),
            hidden=hidden,
            caches=caches,
            begun=wanted,
        )

    def has_room(places: _Places) -> Bool[Array, ""]:
        left = wanted - places.begun
        free = jnp.sum(places.rows == rows)
        return (left > 0) & (free >= jnp.minimum(left, together))

    def fill(places: _Places) -> _Places:
        """Give the first free places to the next rows."""
        number = places.begun + jnp.arange(together)
        row = order[jnp.minimum(number, rows - 1)]
        (free,) = jnp.nonzero(places.rows == rows, size=together, fill_value=size)
        place = jnp.where(number < wanted, free, size)  # of none: dropped
        hidden, caches = _each(
            lambda model, cache: read_prompts(
                model, prompts[row], lengths[row], cache, place
            ),
            models,
            places.caches,
        )
        return places._replace(
            rows=places.rows.at[place].set(row, mode="drop"),
            starts=places.starts.at[place].set(lengths[row], mode="drop"),
            hidden=tuple(
                old.at[place].set(new, mode="drop")
                for old, new in zip(places.hidden, hidden, strict=True)
            ),
            caches=caches,
            begun=jnp.minimum(places.begun + together, wanted),
        )

    def go_on(places: _Places) -> bool | jax.Array:
        return jnp.any(places.rows < rows) | (places.begun < wanted)

    def advance(places: _Places, *, fills: bool) -> _Places:
        if fills:
            places = jax.lax.while_loop(has_room, fill, places)
        steps = places.counts.at[places.rows].get(mode="fill", fill_value=0)
        row = jnp.minimum(places.rows, rows - 1)
        logits = [x.head(y) for x, y in zip(models, places.hidden, strict=True)]
        ids, log_p = choose(logits, row, steps)
        chosen = ids.astype(prompts.dtype)
        tokens = places.tokens.at[places.rows, steps].set(chosen, mode="drop")
        if places.log_p is not None:
            log_p = places.log_p.at[places.rows, steps].set(log_p, mode="drop")
        counts = places.counts.at[places.rows].add(1, mode="drop")
        done = jnp.isin(chosen, jnp.asarray(ends, chosen.dtype))
        done |= steps + 1 >= jnp.minimum(limits[row], num_tokens)
        done |= places.rows == rows
        hidden, caches = _each(
            lambda model, cache: read_tokens(model, chosen, places.starts, cache),
            models,
            places.caches,
        )
        return _Places(
            rows=jnp.where(done, rows, places.rows),
            starts=jnp.where(done, 0, places.starts + 1),
            hidden=hidden,
            caches=caches,
            begun=places.begun,
            tokens=tokens,
            counts=counts,
            log_p=log_p,
        )

    # One token a step, all places together.
    fills = size < rows
    for fewer in _fewer_places(size):

        def needs_all(places: _Places, fewer: int = fewer) -> Bool[Array, ""]:
            return (jnp.sum(places.rows < rows) > fewer) | (places.begun < wanted)

        step = functools.partial(advance, fills=fills)
        places = jax.lax.while_loop(needs_all, step, places)
        places, fills = _moved(places, fewer, none=rows), False
    step = functools.partial(advance, fills=fills)
    places = jax.lax.while_loop(go_on, step, places)
    last = jnp.maximum(places.counts - 1, 0)
    own = jnp.minimum(jnp.arange(num_tokens)[None], last[:, None])
    tokens = jnp.take_along_axis(places.tokens, own, axis=1)
    return Continuations(tokens, places.counts, places.log_p)


def _fewer_places(size: int) -> tuple[int, ...]:
    """Return in how many places the last rows go on, where fewer take less time."""
    is_cpu = sharding.on_one_device() and sharding.platform() == "cpu"
    return (size // 2, size // 4) if is_cpu and size >= MANY else ()


def _moved(places: _Places, fewer: int, *, none: int) -> _Places:
    """Return `places` as so many, to which the rows that go on have come down."""
    first = jnp.argsort(places.rows == none, stable=True)[:fewer]
    return places._replace(
        rows=places.rows[first],
        starts=places.starts[first],
        hidden=tuple(x[first] for x in places.hidden),
        # By layer, or with the layers before the places.
        caches=jax.tree.map(lambda x: jnp.take(x, first, axis=-4), places.caches),
    )


def _each(
    read: Callable[[Transformer, Cache], tuple[jax.Array, Cache]],
    models: Sequence[Transformer],
    caches: Sequence[Cache],
) -> tuple[tuple[jax.Array, ...], tuple[Cache, ...]]:
    """Return the hidden states and the cache of every model."""
    pairs = [read(*pair) for pair in zip(models, caches, strict=True)]
    return tuple(x for x, _ in pairs), tuple(cache for _, cache in pairs)
