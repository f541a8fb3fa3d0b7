"""Gated experts over slots, about as many as a router sends, and a loop over the rest.

    slots  [expert capacity]   one batched product for all experts
    rest   [blocks block]      a loop over the blocks in use, each of one expert

The products over the slots read every weight once and write every gradient once. The
loop serves the experts that are chosen more often than they have slots, so that no
token is dropped; where there are none, it makes no trip.
"""

import functools

import jax
import jax.numpy as jnp

from models.kernels import loops
from models.kernels.forward_mode import forward_mode
from models.kernels.grouped import Activation, Layout, Weights

_float32 = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def run(
    x: jax.Array, weights: Weights, layout: Layout, activation: Activation
) -> jax.Array:
    """Return the outputs of experts by choice, `[n k d]`, of tokens `x [n d]`.

    Choices of experts that `weights` do not hold are zero.

    Args:
      x: the tokens.
      weights: of the experts, `[expert d f]` twice and `[expert f d]`.
      layout: of the choices, with slots.
      activation: between the products.
    """
    rows = (layout.position, layout.slots, layout.rest, layout.owner, layout.used)
    run = _outputs if forward_mode.value else _run
    return run(x, weights, rows, activation)


def _outputs(x, weights, rows, activation):
    return _forward(x, weights, rows, activation)[0]


def _forward(x, weights, rows, activation):
    position, slots, rest, owner, used = rows
    gate, up, down = weights

    # Slots: all experts at once.
    read = _tokens(x, slots, position)
    a = jnp.einsum("ecd,edf->ecf", read, gate)
    b = jnp.einsum("ecd,edf->ecf", read, up)
    y = jnp.einsum("ecf,efd->ecd", activation(a) * b, down)
    choices = _by_choice(y, position)

    # Rest: an expert's block at a time.
    def block(i, choices):
        gate, up, down = (_at(w, owner[i]) for w in weights)
        read = _tokens(x, _at(rest, i), position)
        y = (activation(read @ gate) * (read @ up)) @ down
        return choices.at[_at(rest, i)].set(y, mode="drop", unique_indices=True)

    choices = loops.fori(jnp.zeros_like(used), used, block, choices, trips=0)
    residuals = (x, weights, rows, read, a, b)
    return choices.reshape(*position.shape, x.shape[1]), residuals


def _backward(activation, residuals, d_choices):
    x, weights, rows, read, *products = residuals
    position, slots, rest, owner, used = rows
    gate, up, down = weights
    d_choices = d_choices.reshape(-1, x.shape[1])

    def gated(a, b):
        return activation(a) * b

    # Slots; the activation again, rather than storing `inner` too. Without the barrier
    # the compiler merges both computations, and stores what they are made of.
    a, b = jax.lax.optimization_barrier(products)
    inner, pullback = jax.vjp(gated, a, b)
    d = d_choices.at[slots].get(mode="fill", fill_value=0)
    d_a, d_b = pullback(jnp.einsum("ecd,efd->ecf", d, down))
    d_read = jnp.einsum("ecf,edf->ecd", d_a, gate)
    d_read = d_read + jnp.einsum("ecf,edf->ecd", d_b, up)
    d_weights = (
        _float32("ecd,ecf->edf", read, d_a),
        _float32("ecd,ecf->edf", read, d_b),
        _float32("ecf,ecd->efd", inner, d),
    )

    # Rest.
    def block(i, sums):
        d_x, d_weights = sums
        gate, up, down = (_at(w, owner[i]) for w in weights)
        read = _tokens(x, _at(rest, i), position)
        d = d_choices.at[_at(rest, i)].get(mode="fill", fill_value=0)
        inner, pullback = jax.vjp(gated, read @ gate, read @ up)
        d_a, d_b = pullback(d @ down.T)
        d_read = d_a @ gate.T + d_b @ up.T
        products = zip(d_weights, (read, read, inner), (d_a, d_b, d), strict=True)
        d_weights = tuple(
            _put(
                total,
                _at(total, owner[i]) + _float32("nd,nf->df", left, right),
                owner[i],
            )
            for total, left, right in products
        )
        d_x = d_x.at[_at(rest, i)].set(d_read, mode="drop", unique_indices=True)
        return d_x, d_weights

    sums = (_by_choice(d_read, position), d_weights)
    none = jnp.zeros_like(used)
    d_x, d_weights = loops.fori(none, used, block, sums, trips=0)
    d_x = jnp.sum(d_x.reshape(*position.shape, -1), axis=1)
    d_weights = tuple(
        d.astype(w.dtype) for d, w in zip(d_weights, weights, strict=True)
    )
    return d_x, d_weights, None


_run = jax.custom_vjp(_outputs, nondiff_argnums=(3,))
_run.defvjp(_forward, _backward)


def _tokens(x, source, position):
    """Return the tokens that rows read; filler reads the last one."""
    return x[jnp.minimum(source // position.shape[1], x.shape[0] - 1)]


def _by_choice(y, position):
    """Return `[n * k d]` of slots `[expert capacity d]`; zero for choices beyond."""
    flat = y.reshape(-1, y.shape[-1])
    return flat.at[position.reshape(-1)].get(mode="fill", fill_value=0)


def _at(array, i):
    return jax.lax.dynamic_index_in_dim(array, i, keepdims=False)


def _put(array, value, i):
    return jax.lax.dynamic_update_index_in_dim(array, value, i, 0)
