"""Causal attention within documents, a block of queries by a block of keys at a time.

    for each block of queries i, for each block of keys j <= i that it may see:
      s = q_i k_jᵀ,  m = max(m, s)
      total and mixed rescaled,  + Σ exp(s - m),  + exp(s - m) v_j

Nothing as large as `[t t]` exists, forward or backward: memory is linear in the length
of a row, and scores are computed again in the backward pass. Key blocks that no query
of a block may see (later ones, those before the window, other documents) are not read:
of each row its own where rows are taken one after another, else those of none.

Source: Dao et al. 2022, FlashAttention (arXiv:2205.14135), algorithms 1 and 4.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from models.kernels import loops
from models.kernels.forward_mode import forward_mode

_LEAST = float(jnp.finfo(jnp.float32).min)


@dataclasses.dataclass(frozen=True)
class Packing:
    """Keys that the queries of packed rows may see: those before them.

    Attributes:
      segment_ids: `[b t]`, the document of each token.
      first: `[b blocks]`, the first block of keys that any query of a block may see.
      window: as `Transformer.attention_window`.
      block: queries, and keys, of a block.
      by_row: rows are taken one after another.
    """

    segment_ids: jax.Array
    first: jax.Array
    window: int | None
    block: int
    by_row: bool


jax.tree_util.register_dataclass(
    Packing,
    data_fields=["segment_ids", "first"],
    meta_fields=["window", "block", "by_row"],
)


def packing(
    segment_ids: jax.Array, window: int | None, *, block: int, by_row: bool = False
) -> Packing:
    """Return the packing of rows `[b t]`, any number of tokens long."""
    ids = _ids(segment_ids, block)
    ids = jnp.where(ids == 0, jnp.iinfo(ids.dtype).max, ids)  # padding is behind all
    low, high = jnp.min(ids, axis=-1), jnp.max(ids, axis=-1)

    # Blocks whose ids do not overlap share no document, whatever the order of ids.
    overlap = (low[:, None] <= high[None]) & (low[None] <= high[:, None])
    first = jnp.moveaxis(jnp.argmax(overlap, axis=1), 1, 0)
    if window is not None:
        starts = jnp.arange(first.shape[1])[None] * block
        first = jnp.maximum(first, jnp.maximum(starts - window + 1, 0) // block)
    return Packing(segment_ids, first, window, block, by_row)


def _ids(segment_ids: jax.Array, block: int) -> jax.Array:
    padding = -segment_ids.shape[1] % block
    # The last document goes on: padding queries read its keys, and no query reads them.
    padded = jnp.pad(segment_ids, ((0, 0), (0, padding)), mode="edge")
    return jnp.moveaxis(padded.reshape(padded.shape[0], -1, block), 1, 0)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    packing: Packing,
    *,
    soft_cap: float | None = None,
    sinks: jax.Array | None = None,
) -> jax.Array:
    """Return weighted values `[b t heads head_dim]`; softmax in float32.

    Args:
      query: `[b t heads head_dim]`, scaled.
      key: `[b t kv_heads head_dim]`; a key serves `heads / kv_heads` queries.
      value: as `key`, but for the width of a head.
      packing: of the same rows.
      soft_cap: `cap * tanh(s / cap)` of scores `s`.
      sinks: `[heads]`, float32, a score more of each softmax, whose value is 0.
    """
    length, groups, block = query.shape[1], key.shape[2], packing.block
    rule = _Rule(
        window=packing.window,
        soft_cap=soft_cap,
        trips=pairs(length, packing.window, block=block) / math.ceil(length / block),
        block=block,
    )
    blocked = _mixed if forward_mode.value else _blocked
    if sinks is not None:
        sinks = sinks.reshape(groups, -1)
    arrays = query, key, value, packing.segment_ids, packing.first

    def row(arrays: tuple[jax.Array, ...]) -> jax.Array:
        q, k, v, ids, first = (x[None] for x in arrays)
        return jnp.squeeze(blocked(rule, q, k, v, ids, first, sinks), 0)

    if packing.by_row and query.shape[0] > 1:
        return jax.lax.map(row, arrays)
    mixed: Any = blocked(rule, *arrays, sinks)
    return mixed


def pairs(length: int, window: int | None, *, block: int) -> int:
    """Return the pairs of blocks that a row of one document multiplies."""
    count = math.ceil(length / block)
    reach = count if window is None else math.ceil((window - 1) / block) + 1
    return sum(min(i + 1, reach) for i in range(count))


@dataclasses.dataclass(frozen=True)
class _Rule:
    """Settings that are no arrays; `trips`: blocks of keys a block of queries."""

    window: int | None
    soft_cap: float | None
    trips: float
    block: int

    def cut(self, x: jax.Array, groups: int) -> jax.Array:
        """Return `[blocks b groups g block ...]` of rows `[b t groups * g ...]`."""
        batch, length, heads, *features = x.shape
        padding = [(0, 0)] * x.ndim
        padding[1] = (0, -length % self.block)
        x = jnp.pad(x, padding)
        x = x.reshape(batch, -1, self.block, groups, heads // groups, *features)
        x = jnp.moveaxis(x, 2, 4)
        return jnp.moveaxis(x, 1, 0)

    def join(self, x: jax.Array, length: int) -> jax.Array:
        """Return rows `[b t groups * g ...]` of `cut`."""
        x = jnp.moveaxis(jnp.moveaxis(x, 0, 1), 4, 2)
        batch, blocks, block, groups, g, *features = x.shape
        rows = x.reshape(batch, blocks * block, groups * g, *features)
        return rows[:, :length]

    def scores(self, q, k, ids_q, ids_k, i, j) -> tuple[jax.Array, jax.Array]:
        """Return scores `[b kv_heads g q k]` of blocks i and j: capped, and masked."""
        s = jnp.einsum("bkgqd,bksd->bkgqs", q, k, preferred_element_type=jnp.float32)
        if self.soft_cap is not None:
            s = self.soft_cap * jnp.tanh(s / self.soft_cap)
        block = self.block
        place = jnp.arange(block)
        behind = (i - j) * block + place[:, None] - place[None]
        near = behind >= 0
        if self.window is not None:
            near &= behind < self.window
        allowed = ids_q[:, :, None] == ids_k[:, None]
        allowed &= jnp.broadcast_to(near, allowed.shape)
        allowed = jnp.broadcast_to(jnp.expand_dims(allowed, (1, 2)), s.shape)
        return s, jnp.where(allowed, s, _LEAST)

    def uncap(self, d_scores: jax.Array, scores: jax.Array) -> jax.Array:
        """Return the cotangent of scores before the cap, of capped `scores`."""
        if self.soft_cap is None:
            return d_scores
        return d_scores * (1 - jnp.square(scores / self.soft_cap))


def _mixed(rule, query, key, value, segment_ids, first, sinks):
    return _forward(rule, query, key, value, segment_ids, first, sinks)[0]


def _forward(rule, query, key, value, segment_ids, first, sinks):
    groups = key.shape[2]
    q = rule.cut(query, groups)
    k, v = (rule.cut(x, groups)[:, :, :, 0] for x in (key, value))
    ids, first = _ids(segment_ids, rule.block), jnp.min(first, axis=0)

    def block(_, inputs):
        i, q_i, ids_i, first_i = inputs

        def add(j, state):
            largest, total, mixed = state
            _, s = rule.scores(q_i, k[j], ids_i, ids[j], i, j)
            new = jnp.maximum(largest, jnp.max(s, axis=-1))
            weights = jnp.exp(s - new[..., None])
            shrink = jnp.exp(largest - new)
            more = jnp.einsum(
                "bkgqs,bksd->bkgqd",
                weights.astype(v.dtype),
                v[j],
                preferred_element_type=jnp.float32,
            )
            total = total * shrink + jnp.sum(weights, axis=-1)
            return new, total, mixed * shrink[..., None] + more

        rows = q_i.shape[:-1]
        state = (
            _filled(q, rows, _LEAST) if sinks is None else _of_rows(sinks, q, rows),
            _filled(q, rows, 0.0 if sinks is None else 1.0),  # exp(sink - largest)
            _filled(q, (*rows, v.shape[-1]), 0.0),
        )
        # The last block holds the queries' own keys: no row is without one.
        largest, total, mixed = loops.fori(first_i, i + 1, add, state, trips=rule.trips)
        mixed = (mixed / total[..., None]).astype(v.dtype)
        return None, (mixed, largest + jnp.log(total))

    _, (mixed, log_total) = jax.lax.scan(
        block, None, (jnp.arange(q.shape[0]), q, ids, first)
    )
    # Kept as rows, which the layer keeps anyway: not twice.
    mixed = rule.join(mixed, query.shape[1])
    return mixed, (q, k, v, ids, first, sinks, mixed, log_total)


def _backward(rule, residuals, d_mixed):
    q, k, v, ids, first, sinks, mixed, log_total = residuals
    length, groups = mixed.shape[1], q.shape[2]
    wide = d_mixed.astype(jnp.float32) * mixed.astype(jnp.float32)
    # Σ_s weight_s · d weight_s of each query; axes of one slow it down, as in
    # `models.norms`.
    units = [i for i, size in enumerate(wide.shape[:-1]) if size == 1]
    own = jnp.sum(jnp.squeeze(wide, units), axis=-1).reshape(wide.shape[:-1])
    own = rule.cut(own, groups)
    d_mixed = rule.cut(d_mixed, groups)

    def block(sums, inputs):
        i, q_i, ids_i, first_i, d_i, log_total_i, own_i = inputs
        product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

        def add(j, state):
            d_q, d_k, d_v = state
            capped, s = rule.scores(q_i, k[j], ids_i, ids[j], i, j)
            weights = jnp.exp(s - log_total_i[..., None])
            d_weights = product("bkgqd,bksd->bkgqs", d_i, v[j])
            d_s = rule.uncap(weights * (d_weights - own_i[..., None]), capped)
            d_s, weights = d_s.astype(q.dtype), weights.astype(v.dtype)
            d_q = d_q + product("bkgqs,bksd->bkgqd", d_s, k[j])
            more_k = product("bkgqs,bkgqd->bksd", d_s, q_i)
            more_v = product("bkgqs,bkgqd->bksd", weights, d_i)
            return d_q, d_k.at[j].add(more_k), d_v.at[j].add(more_v)

        state = (_filled(q, q_i.shape, 0.0), *sums)
        d_q, *sums = loops.fori(first_i, i + 1, add, state, trips=rule.trips)
        return tuple(sums), d_q.astype(q.dtype)

    (d_k, d_v), d_q = jax.lax.scan(
        block,
        (_filled(k, k.shape, 0.0), _filled(v, v.shape, 0.0)),
        (jnp.arange(q.shape[0]), q, ids, first, d_mixed, log_total, own),
    )
    d_sinks = None
    if sinks is not None:  # the value is 0: `-weight · own`
        weights = jnp.exp(_of_rows(sinks, q, own.shape) - log_total)
        d_sinks = -jnp.sum(weights * own, axis=(0, 1, 4))
    d_q = rule.join(d_q, length)
    d_k, d_v = (rule.join(x[:, :, :, None], length) for x in (d_k, d_v))
    return d_q, d_k.astype(k.dtype), d_v.astype(v.dtype), None, None, d_sinks


_blocked = jax.custom_vjp(_mixed, nondiff_argnums=(0,))
_blocked.defvjp(_forward, _backward)


def _of_rows(sinks: jax.Array, like: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return `[kv_heads g]` as `[... kv_heads g block]`, varying as `like` does."""
    return _filled(like, shape, 0.0) + jnp.broadcast_to(sinks[..., None], shape)


def _filled(like: jax.Array, shape: tuple[int, ...], value: float) -> jax.Array:
    """Return a float32 array that varies over the manual mesh axes of `like`."""
    array = jnp.full(shape, value, jnp.float32)
    axes = tuple(sorted(jax.typeof(like).manual_axis_type.varying))
    return jax.lax.pcast(array, axes, to="varying") if axes else array
