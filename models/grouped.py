"""Grouped products: rows sorted by expert, and the experts run over them.

A `Layout` gives every (token, choice) a row; the rows of an expert are neighbours and
start at a multiple of `block`, so that every block of rows belongs to one expert. The
rows past the last choice of an expert are filler: they read some token and are read by
nobody, and their cotangents are zero.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from models import sharding
from models.kernels import loops
from models.kernels.forward_mode import forward_mode

Weights = tuple[jax.Array, ...]
"""`gate` and `up` `[expert d f]`, and `down` `[expert f d]`."""
Activation = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Assignment of the choices of `n` tokens, `k` each, to rows.

    Attributes:
      position: `[n k]`, the row of a choice.
      source: `[rows]`, the choice (`token * k + j`) of a row; `n * k` for filler.
      owner: `[rows / block]`, the expert of a block.
      used: number of leading blocks that hold any choice of an expert.
      sizes: `[expert]`, rows of each expert, filler included.
    """

    position: jax.Array
    source: jax.Array
    owner: jax.Array
    used: jax.Array
    sizes: jax.Array


def arrange(experts: jax.Array, *, num_experts: int, block: int) -> Layout:
    """Return the layout of choices `experts [n k]`: a counting sort.

    Choices outside `0 .. num_experts - 1` (experts of another device) lie behind all
    others, in blocks that are not used.
    """
    chosen = experts.reshape(-1)
    count = chosen.shape[0]
    groups = num_experts + 1
    chosen = jnp.where((chosen >= 0) & (chosen < num_experts), chosen, num_experts)
    # Count the choices of each expert, and round up to whole blocks.
    member = (chosen[:, None] == jnp.arange(groups)[None]).astype(jnp.int32)
    running = jnp.cumsum(member, axis=0)
    sizes = -(-running[-1] // block) * block
    ends = jnp.cumsum(sizes)
    # A choice's row: the start of its expert, plus the choices before it.
    rank = jnp.sum((running - 1 + (ends - sizes)[None]) * member, axis=1)
    rows = -(-count // block) * block + num_experts * block
    source = jnp.full((rows,), count, jnp.int32)
    source = source.at[rank].set(jnp.arange(count), unique_indices=True)
    # A block's expert: the first whose rows end behind the block's start.
    starts = jnp.arange(rows // block) * block
    owner = jnp.sum(starts[:, None] >= ends[None, :num_experts], axis=1)
    return Layout(
        position=rank.reshape(experts.shape),
        source=source,
        owner=jnp.minimum(owner, num_experts - 1),
        used=ends[num_experts - 1] // block,
        sizes=sizes[:num_experts],
    )


def to_rows(x: jax.Array, layout: Layout) -> jax.Array:
    """Return `[rows d]` of tokens `x [n d]`, each once for each of its choices."""
    to_rows = _token_rows if forward_mode.value else _to_rows
    return to_rows(x, layout.source, layout.position)


def from_rows(rows: jax.Array, gates: jax.Array, layout: Layout) -> jax.Array:
    """`Σ_j gate_j · row_j` of each token: `[rows d]`, `[n k]` -> `[n d]`, float32."""
    from_rows = _chosen_rows if forward_mode.value else _from_rows
    chosen = from_rows(rows, layout.source, layout.position)
    return jnp.sum(chosen.astype(jnp.float32) * gates[..., None], axis=1)


# Both ways are gathers, forward and backward: the transpose JAX would derive is a
# scatter, which a CPU runs one row at a time.


def _token_rows(x, source, position):
    token = jnp.minimum(source // position.shape[1], x.shape[0] - 1)
    return x[token]


def _to_rows_forward(x, source, position):
    return _token_rows(x, source, position), position


def _to_rows_backward(position, rows):
    return jnp.sum(rows[position], axis=1), None, None


_to_rows = jax.custom_vjp(_token_rows)
_to_rows.defvjp(_to_rows_forward, _to_rows_backward)


def _chosen_rows(rows, source, position):
    return rows[position]


def _from_rows_forward(rows, source, position):
    return _chosen_rows(rows, source, position), source


def _from_rows_backward(source, chosen):
    choices = chosen.reshape(-1, chosen.shape[-1])
    return choices.at[source].get(mode="fill", fill_value=0), None, None


_from_rows = jax.custom_vjp(_chosen_rows)
_from_rows.defvjp(_from_rows_forward, _from_rows_backward)


def ragged(
    rows: jax.Array, weights: Weights, layout: Layout, activation: Activation
) -> jax.Array:
    """Run gated experts as three grouped products of all experts."""
    gate, up, down = weights
    product = functools.partial(jax.lax.ragged_dot, group_sizes=layout.sizes)
    # What `ragged_dot` leaves in rows of no group is up to the backend.
    owned = (jnp.arange(rows.shape[0]) < jnp.sum(layout.sizes))[:, None]
    rows = jnp.where(owned, rows, 0)
    inner = activation(product(rows, gate)) * product(rows, up)
    return jnp.where(owned, product(inner, down), 0)


def looped(
    rows: jax.Array,
    weights: Weights,
    layout: Layout,
    activation: Activation,
    *,
    trips: float = 1.0,
) -> jax.Array:
    """Run gated experts block by block, in a loop over the blocks in use.

    Cost follows the rows in use; `ragged_dot` on a CPU multiplies all rows with all
    experts.

    Args:
      rows: `[rows d]`.
      weights: of the experts.
      layout: of the rows.
      activation: between the products.
      trips: blocks in use that are to be expected, for those who count FLOPs.
    """
    loop = _expert_blocks if forward_mode.value else _looped
    return loop(rows, weights, layout.owner, layout.used, activation, trips)


def _expert_blocks(rows, weights, owner, used, activation, trips):
    return _looped_forward(rows, weights, owner, used, activation, trips)[0]


def _looped_forward(rows, weights, owner, used, activation, trips):
    blocks = rows.reshape(owner.shape[0], -1, rows.shape[-1])
    inner = (*blocks.shape[:2], weights[0].shape[-1])

    def block(i, buffers):
        gate, up, down = (_at(w, owner[i]) for w in weights)
        x = _at(blocks, i)
        a, b = x @ gate, x @ up
        y = (activation(a) * b) @ down
        return tuple(_put(to, v, i) for to, v in zip(buffers, (y, a, b), strict=True))

    empty = tuple(_zeros(rows, s, rows.dtype) for s in (blocks.shape, inner, inner))
    y, a, b = loops.fori(jnp.zeros_like(used), used, block, empty, trips=trips)
    return y.reshape(rows.shape), (blocks, a, b, weights, owner, used)


def _looped_backward(activation, trips, residuals, dy):
    blocks, a, b, weights, owner, used = residuals
    dy = dy.reshape(blocks.shape)

    def block(i, sums):
        dx, dweights = sums
        gate, up, down = (_at(w, owner[i]) for w in weights)
        x, d = _at(blocks, i), _at(dy, i)
        # The activation again, rather than storing `inner` of every block.
        inner, pullback = jax.vjp(lambda a, b: activation(a) * b, _at(a, i), _at(b, i))
        da, db = pullback(d @ down.T)
        dx = _put(dx, da @ gate.T + db @ up.T, i)
        products = zip(dweights, (x, x, inner), (da, db, d), strict=True)
        dweights = tuple(
            _put(to, _at(to, owner[i]) + _outer(left, right), owner[i])
            for to, left, right in products
        )
        return dx, dweights

    empty = tuple(_zeros(blocks, w.shape, jnp.float32) for w in weights)
    start = (_zeros(blocks, blocks.shape, blocks.dtype), empty)
    none = jnp.zeros_like(used)
    dx, dweights = loops.fori(none, used, block, start, trips=trips)
    dweights = tuple(d.astype(w.dtype) for d, w in zip(dweights, weights, strict=True))
    return dx.reshape(-1, blocks.shape[-1]), dweights, None, None


_looped = jax.custom_vjp(_expert_blocks, nondiff_argnums=(4, 5))
_looped.defvjp(_looped_forward, _looped_backward)


def _outer(left, right):
    return jnp.einsum("nd,nf->df", left, right, preferred_element_type=jnp.float32)


def _at(array, i):
    return jax.lax.dynamic_index_in_dim(array, i, keepdims=False)


def _put(array, value, i):
    return jax.lax.dynamic_update_index_in_dim(array, value, i, 0)


def _zeros(like, shape, dtype):
    """Return zeros that vary over the manual mesh axes of `like`, as loops demand."""
    return sharding.vary(
        jnp.zeros(shape, dtype), jax.typeof(like).manual_axis_type.varying
    )
