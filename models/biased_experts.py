"""Experts with biases, and their gating."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from models import sharding
from models.kernels import grouped
from models.kernels.grouped import Activation, Weights


@dataclasses.dataclass(frozen=True)
class Gating:
    """`activation(a) · b`; with a clamp c, `activation(min(a, c)) · (clip(b, ±c) + 1)`.

    Attributes:
      activation: of the gate.
      clamp: the largest size of what it multiplies; None is no bound.

    Source: gpt-oss (arXiv:2508.10925, section 2.2), whose activation is `a σ(1.702 a)`
    and whose clamp is 7.
    """

    activation: Activation
    clamp: float | None = None

    def __call__(self, gate: jax.Array, up: jax.Array) -> jax.Array:
        """Return the inner features of `gate` and `up`, `[*b f]`."""
        if self.clamp is None:
            return self.activation(gate) * up
        bounded = self.activation(jnp.minimum(gate, self.clamp))
        return bounded * (jnp.clip(up, -self.clamp, self.clamp) + 1)


def experts(
    x: jax.Array, gates: jax.Array, chosen: jax.Array, weights: Weights, gating: Gating
) -> jax.Array:
    """Return `Σ_j gate_j · expert_{chosen_j}(x)`, as `models.moe.experts` does.

    Args:
      x: `[n d]`.
      gates: `[n k]`.
      chosen: `[n k]`; experts that `weights` do not hold add nothing.
      weights: and the biases of each, `[expert f]` and `[expert d]`.
      gating: between the products.
    """
    # On a CPU grouped products multiply every row with every expert.
    form = dense if sharding.platform() == "cpu" else ragged
    return form(x, gates, chosen, weights, gating)


def dense(
    x: jax.Array, gates: jax.Array, chosen: jax.Array, weights: Weights, gating: Gating
) -> jax.Array:
    """Run each expert on each token."""
    gate, up, down, *biases = weights
    gate_bias, up_bias, down_bias = (jnp.expand_dims(b, 0) for b in biases)
    one_hot = jax.nn.one_hot(chosen, gate.shape[0], dtype=jnp.float32)
    expert_gates = jnp.sum(one_hot * gates[..., None], axis=1)
    inner = gating(
        jnp.einsum("nd,edf->nef", x, gate) + gate_bias,
        jnp.einsum("nd,edf->nef", x, up) + up_bias,
    )
    out = jnp.einsum("nef,efd->ned", inner, down) + down_bias
    total = jnp.sum(out.astype(jnp.float32) * expert_gates[..., None], axis=1)
    return total.astype(x.dtype)


def ragged(
    x: jax.Array, gates: jax.Array, chosen: jax.Array, weights: Weights, gating: Gating
) -> jax.Array:
    """Run grouped products over rows sorted by expert."""
    gate, up, down, *biases = weights
    layout = grouped.arrange(chosen, num_experts=gate.shape[0], block=1)
    product = functools.partial(jax.lax.ragged_dot, group_sizes=layout.sizes)
    gate_bias, up_bias, down_bias = (b[layout.owner] for b in biases)
    # What `ragged_dot` leaves in rows of no group is up to the backend.
    owned = (jnp.arange(layout.owner.shape[0]) < layout.used)[:, None]
    rows = jnp.where(owned, grouped.to_rows(x, layout), 0)
    inner = gating(product(rows, gate) + gate_bias, product(rows, up) + up_bias)
    inner = jnp.where(owned, inner, 0)
    out = jnp.where(owned, product(inner, down) + down_bias, 0)
    return grouped.from_rows(out, gates, layout).astype(x.dtype)
