"""Attention of a later step of a draft: over its first step, and over its own chain."""

import functools

import jax
import jax.numpy as jnp

BLOCK = 512
"""Queries whose scores over a whole row exist at once."""

Pair = tuple[jax.Array, jax.Array]
"""Keys and values, `[b t kv_heads head_dim]` each."""


def attend(query: jax.Array, steps: list[Pair], segment_ids: jax.Array) -> jax.Array:
    """Return weighted values `[b t heads head_dim]`; softmax in float32.

    The query of token t sees, of the first step, the tokens of its document up to t;
    of each later one token t alone.

    Args:
      query: `[b t heads head_dim]`, scaled.
      steps: of each step so far, the first one first.
      segment_ids: `[b t]`, the document of each token.
    """
    batch, length, heads, width = query.shape
    groups = steps[0][0].shape[2]
    grouped = query.reshape(batch, length, groups, heads // groups, width)
    block = min(length, BLOCK)
    padding = [(0, 0), (0, -length % block)]

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, padding + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(batch, -1, block, *x.shape[2:]), 1, 0)

    own = [(cut(key), cut(value)) for key, value in steps[1:]]
    places = jnp.arange(length + padding[1][1]).reshape(-1, block)
    run = functools.partial(_block, first=steps[0], segment_ids=segment_ids)
    inputs = cut(grouped), own, cut(segment_ids), places
    mixed = jax.lax.map(jax.checkpoint(lambda x: run(*x)), inputs)
    mixed = jnp.moveaxis(mixed, 0, 1).reshape(batch, -1, heads, width)
    return mixed[:, :length].astype(query.dtype)


def _block(
    query: jax.Array,
    own: list[Pair],
    documents: jax.Array,
    places: jax.Array,
    *,
    first: Pair,
    segment_ids: jax.Array,
) -> jax.Array:
    """Return the values of some queries, `[b q kv_heads g head_dim]`, float32."""
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    scores = product("bqkgd,bskd->bqkgs", query, first[0])
    keys = jnp.arange(segment_ids.shape[1])
    before = places[:, None] >= keys[None]
    allowed = documents[:, :, None] == segment_ids[:, None]
    allowed &= jnp.broadcast_to(before, allowed.shape)
    allowed = jnp.broadcast_to(jnp.expand_dims(allowed, (2, 3)), scores.shape)
    least = jnp.finfo(jnp.float32).min
    scores = jnp.where(allowed, scores, least)
    more = [product("bqkgd,bqkd->bqkg", query, key)[..., None] for key, _ in own]
    weights = jax.nn.softmax(jnp.concatenate([scores, *more], axis=-1), axis=-1)
    split = scores.shape[-1]
    mixed = product("bqkgs,bskd->bqkgd", weights[..., :split], _wide(first[1]))
    for i, (_, value) in enumerate(own):
        weight = weights[..., split + i]
        mixed = mixed + product("bqkg,bqkd->bqkgd", weight, _wide(value))
    return mixed


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)
