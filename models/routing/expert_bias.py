"""Bias on expert scores that balances the load without a loss."""

import jax
import jax.numpy as jnp
from flax import nnx


class ExpertBias(nnx.Variable):
    """`[expert]` float32, added to scores when experts are chosen, never to gates.

    Not a parameter: the train step replaces it by `update` after each step.
    """

    @classmethod
    def zeros(cls, num_experts: int, *, rate: float) -> "ExpertBias":
        """Return the initial bias; a step moves an entry by at most `rate`."""
        return cls(jnp.zeros((num_experts,), jnp.float32), axes=(None,), rate=rate)


def update(bias: jax.Array, load: jax.Array, *, rate: float) -> jax.Array:
    """`b_e + rate · sign(mean load - load_e)`, arrays `[... expert]`.

    Args:
      bias: of the step that ended.
      load: tokens of the last global batch that chose each expert.
      rate: size of the change.

    Source: Wang et al. 2024 (arXiv:2408.15664), algorithm 1, rate 1e-3; DeepSeek-V3
    (arXiv:2412.19437), section 2.1.2.
    """
    mean = jnp.mean(load, axis=-1, keepdims=True)
    return bias + jnp.float32(rate) * jnp.sign(mean - load)
