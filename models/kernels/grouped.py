"""Rows sorted by expert, and the experts run over them as grouped products.

A `Layout` gives every (token, choice) a row. The first rows are slots, as many for each
expert, whether it gets so many choices or not; the choices beyond them have rows in
blocks, each of one expert. Rows that no choice takes are filler: they read some token
and are read by nobody, and their cotangents are zero.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from models.kernels.forward_mode import forward_mode

Weights = tuple[jax.Array, ...]
"""`gate` and `up` `[expert d f]`, and `down` `[expert f d]`."""
Activation = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Assignment of the choices of `n` tokens, `k` each, to rows.

    Attributes:
      position: `[n k]`, the row of a choice; blocks come after slots.
      slots: `[expert capacity]`, the choice (`token * k + j`) of a row; `n * k` for
        filler.
      rest: `[blocks block]`, the same of the rows in blocks.
      owner: `[blocks]`, the expert of a block.
      used: number of leading blocks that hold any choice of an expert.
      sizes: `[expert]`, rows of each expert in blocks, filler included.
    """

    position: jax.Array
    slots: jax.Array
    rest: jax.Array
    owner: jax.Array
    used: jax.Array
    sizes: jax.Array


def arrange(
    experts: jax.Array, *, num_experts: int, block: int, capacity: int = 0
) -> Layout:
    """Return the layout of choices `experts [n k]`: a counting sort.

    Choices outside `0 .. num_experts - 1` (experts of another device) lie behind all
    others, in blocks that are not used.
    """
    chosen = experts.reshape(-1)
    count = chosen.shape[0]
    groups = num_experts + 1
    chosen = jnp.where((chosen >= 0) & (chosen < num_experts), chosen, num_experts)
    # Count the choices of each expert; round up to whole blocks what is over capacity.
    member = (chosen[:, None] == jnp.arange(groups)[None]).astype(jnp.int32)
    running = jnp.cumsum(member, axis=0)
    capacities = jnp.where(jnp.arange(groups) < num_experts, capacity, 0)
    sizes = -(-jnp.maximum(running[-1] - capacities, 0) // block) * block
    ends = jnp.cumsum(sizes)
    # A choice's row: the start of its expert, plus the choices before it.
    before = jnp.sum((running - 1) * member, axis=1)
    beyond = before - capacities[chosen]
    start = num_experts * capacity + (ends - sizes)[chosen]
    position = jnp.where(beyond < 0, chosen * capacity + before, start + beyond)
    rest = -(-count // block) * block + num_experts * block
    source = jnp.full((num_experts * capacity + rest,), count, jnp.int32)
    source = source.at[position].set(jnp.arange(count), unique_indices=True)
    # A block's expert: the first whose rows end behind the block's start.
    starts = jnp.arange(rest // block) * block
    owner = jnp.sum(starts[:, None] >= ends[None, :num_experts], axis=1)
    return Layout(
        position=position.reshape(experts.shape),
        slots=source[: num_experts * capacity].reshape(num_experts, capacity),
        rest=source[num_experts * capacity :].reshape(-1, block),
        owner=jnp.minimum(owner, num_experts - 1),
        used=ends[num_experts - 1] // block,
        sizes=sizes[:num_experts],
    )


def to_rows(x: jax.Array, layout: Layout) -> jax.Array:
    """Return `[rows d]` of tokens `x [n d]`, each once for each of its choices.

    Of layouts without slots, as `from_rows`.
    """
    to_rows = _token_rows if forward_mode.value else _to_rows
    return to_rows(x, layout.rest.reshape(-1), layout.position)


def from_rows(rows: jax.Array, gates: jax.Array, layout: Layout) -> jax.Array:
    """`Σ_j gate_j · row_j` of each token: `[rows d]`, `[n k]` -> `[n d]`, float32."""
    from_rows = _chosen_rows if forward_mode.value else _from_rows
    return gated_sum(from_rows(rows, layout.rest.reshape(-1), layout.position), gates)


def gated_sum(choices: jax.Array, gates: jax.Array) -> jax.Array:
    """`Σ_j gate_j · y_j` of each token: `[n k d]`, `[n k]` -> `[n d]`, float32."""
    return jnp.sum(choices.astype(jnp.float32) * gates[..., None], axis=1)


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
