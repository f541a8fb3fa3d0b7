"""A bias on the scores of experts, moved by how many tokens they get."""

import jax
import jax.numpy as jnp
from flax import nnx


class ExpertBias(nnx.Variable):
    """`[expert]` float32, added to scores for the choice of experts and for no gate.

    It is no parameter. `update` is what the trainer does with it after each step.
    """

    @classmethod
    def zeros(cls, num_experts: int, *, rate: float) -> "ExpertBias":
        """Where it starts; rate: how far a step moves it."""
        return cls(jnp.zeros((num_experts,), jnp.float32), axes=(None,), rate=rate)


def update(bias: jax.Array, load: jax.Array, *, rate: float) -> jax.Array:
    """`b_e + rate · sign(mean load - load_e)`, arrays `[... expert]`.

    load: tokens of the last global batch that chose each expert.

    Source: Wang et al. 2024 (arXiv:2408.15664), algorithm 1, rate 1e-3; DeepSeek-V3
    (arXiv:2412.19437), section 2.1.2.
    """
    mean = jnp.mean(load, axis=-1, keepdims=True)
    return bias + jnp.float32(rate) * jnp.sign(mean - load)
