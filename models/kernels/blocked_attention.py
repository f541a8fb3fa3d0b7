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
from models.kernels.packing import Packing, block_ids

_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
_LEAST = float(jnp.finfo(jnp.float32).min)


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
    batch = query.shape[0]
    if packing.by_row:
        query, key, value = (packing.in_one(x) for x in (query, key, value))
        packing = packing.one_row()
    mixed: Any = blocked(
        rule, query, key, value, packing.segment_ids, packing.first, sinks
    )
    return mixed.reshape(batch, -1, *mixed.shape[2:])[:, :length]


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
        """Return `[blocks b block groups g ...]` of rows `[b t groups * g ...]`."""
        batch, length, heads, *features = x.shape
        padding = [(0, 0)] * x.ndim
        padding[1] = (0, -length % self.block)
        x = jnp.pad(x, padding)
        x = x.reshape(batch, -1, self.block, groups, heads // groups, *features)
        return jnp.moveaxis(x, 1, 0)

    def join(self, x: jax.Array, length: int) -> jax.Array:
        """Return rows `[b t groups * g ...]` of `cut`."""
        x = jnp.moveaxis(x, 0, 1)
        batch, blocks, block, groups, g, *features = x.shape
        rows = x.reshape(batch, blocks * block, groups * g, *features)
        return rows[:, :length]

    def cut_keys(self, x: jax.Array) -> jax.Array:
        """Return `[blocks b kv_heads block ...]` of rows `[b t kv_heads ...]`."""
        return jnp.moveaxis(self.cut(x, x.shape[2])[:, :, :, :, 0], 2, 3)

    def join_keys(self, x: jax.Array, length: int) -> jax.Array:
        """Return rows `[b t kv_heads ...]` of `cut_keys`."""
        return self.join(jnp.moveaxis(x, 3, 2)[:, :, :, :, None], length)

    def scores(self, q, k_t, ids_q, ids_k, i, j) -> tuple[jax.Array, jax.Array]:
        """Return scores `[b kv_heads g q k]` of blocks i and j: capped, and masked."""
        s = _product("bkgqd,bkds->bkgqs", q, k_t)
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
    k_t, v = _turned(rule.cut_keys(key)), rule.cut_keys(value)
    ids, first = block_ids(segment_ids, rule.block), jnp.min(first, axis=0)

    def block(_, inputs):
        i, q_i, ids_i, first_i = inputs
        q_i = _heads_first(q_i)

        def add(j, state):
            largest, total, mixed = state
            _, s = rule.scores(q_i, k_t[j], ids_i, ids[j], i, j)
            new = jnp.maximum(largest, jnp.max(s, axis=-1))
            weights = jnp.exp(s - new[..., None])
            shrink = jnp.exp(largest - new)
            more = _product("bkgqs,bksd->bkgqd", weights.astype(v.dtype), v[j])
            total = total * shrink + jnp.sum(weights, axis=-1)
            return new, total, mixed * shrink[..., None] + more

        rows = q_i.shape[:-1]
        state = (
            _filled(q_i, rows, _LEAST) if sinks is None else _of_rows(sinks, q_i, rows),
            _filled(q_i, rows, 0.0 if sinks is None else 1.0),  # exp(sink - largest)
            _filled(q_i, (*rows, v.shape[-1]), 0.0),
        )
        # The last block holds the queries' own keys: no row is without one.
        largest, total, mixed = loops.fori(first_i, i + 1, add, state, trips=rule.trips)
        mixed = (mixed / total[..., None]).astype(v.dtype)
        return None, (_heads_last(mixed), largest + jnp.log(total))

    q = rule.cut(query, groups)
    _, (mixed, log_total) = jax.lax.scan(
        block, None, (jnp.arange(q.shape[0]), q, ids, first)
    )
    # Kept as rows, which the layer keeps anyway: not twice.
    mixed = rule.join(mixed, query.shape[1])
    return mixed, (query, key, value, ids, first, sinks, mixed, log_total)


def _backward(rule, residuals, d_mixed):
    query, key, value, ids, first, sinks, mixed, log_total = residuals
    length, groups = query.shape[1], key.shape[2]
    k, v_t = rule.cut_keys(key), _turned(rule.cut_keys(value))
    k_t = _turned(k)

    def block(sums, inputs):
        i, q_i, ids_i, first_i, mixed_i, log_total_i, d_i = inputs
        q_i, mixed_i, d_i = (_heads_first(x) for x in (q_i, mixed_i, d_i))
        q_t, d_t = _turned(q_i), _turned(d_i)
        own_i = _inner(d_i, mixed_i)  # Σ_s weight_s · d weight_s of each query

        def add(j, state):
            d_q, d_k, d_v = state
            capped, s = rule.scores(q_i, k_t[j], ids_i, ids[j], i, j)
            weights = jnp.exp(s - log_total_i[..., None])
            d_weights = _product("bkgqd,bkds->bkgqs", d_i, v_t[j])
            d_s = rule.uncap(weights * (d_weights - own_i[..., None]), capped)
            d_s, weights = d_s.astype(query.dtype), weights.astype(value.dtype)
            d_q = d_q + _product("bkgqs,bksd->bkgqd", d_s, k[j])
            more_k = _product("bkgdq,bkgqs->bkds", q_t, d_s)
            more_v = _product("bkgdq,bkgqs->bkds", d_t, weights)
            return d_q, d_k.at[j].add(more_k), d_v.at[j].add(more_v)

        state = (_filled(q_i, q_i.shape, 0.0), *sums)
        d_q, *sums = loops.fori(first_i, i + 1, add, state, trips=rule.trips)
        return tuple(sums), (_heads_last(d_q).astype(query.dtype), own_i)

    (d_k, d_v), (d_q, own) = jax.lax.scan(
        block,
        (_filled(k, k_t.shape, 0.0), _filled(k, v_t.shape, 0.0)),
        (
            jnp.arange(k.shape[0]),
            rule.cut(query, groups),
            ids,
            first,
            rule.cut(mixed, groups),
            log_total,
            rule.cut(d_mixed, groups),
        ),
    )
    d_sinks = None
    if sinks is not None:  # the value is 0: `-weight · own`
        weights = jnp.exp(_of_rows(sinks, k, own.shape) - log_total)
        d_sinks = -jnp.sum(weights * own, axis=(0, 1, 4))
    d_k, d_v = (rule.join_keys(_turned(x), length) for x in (d_k, d_v))
    d_k, d_v = d_k.astype(key.dtype), d_v.astype(value.dtype)
    return rule.join(d_q, length), d_k, d_v, None, None, d_sinks


_blocked = jax.custom_vjp(_mixed, nondiff_argnums=(0,))
_blocked.defvjp(_forward, _backward)


def _inner(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return `Σ_d x_d y_d`, float32; axes of one slow it down, as in `models.norms`."""
    product = x.astype(jnp.float32) * y.astype(jnp.float32)
    units = [i for i, size in enumerate(product.shape[:-1]) if size == 1]
    return jnp.sum(jnp.squeeze(product, units), axis=-1).reshape(x.shape[:-1])


def _heads_first(x: jax.Array) -> jax.Array:
    """Return `[b kv_heads g q ...]` of a block `[b q kv_heads g ...]`."""
    return jnp.moveaxis(x, 1, 3)


def _heads_last(x: jax.Array) -> jax.Array:
    """Return the inverse of `_heads_first`."""
    return jnp.moveaxis(x, 3, 1)


def _turned(x: jax.Array) -> jax.Array:
    """Return blocks with their features first, `[... d s]` of `[... s d]`.

    Once for all pairs of blocks: XLA on a CPU would turn the right operand in each.
    """
    return jnp.swapaxes(x, -1, -2)


def _of_rows(sinks: jax.Array, like: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return `[kv_heads g]` as `[... kv_heads g block]`, varying as `like` does."""
    return _filled(like, shape, 0.0) + jnp.broadcast_to(sinks[..., None], shape)


def _filled(like: jax.Array, shape: tuple[int, ...], value: float) -> jax.Array:
    """Return a float32 array that varies over the manual mesh axes of `like`."""
    array = jnp.full(shape, value, jnp.float32)
    axes = tuple(sorted(jax.typeof(like).manual_axis_type.varying))
    return jax.lax.pcast(array, axes, to="varying") if axes else array
