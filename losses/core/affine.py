"""Kernel and bias that a loss owns."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

_INITIAL = jax.nn.initializers.lecun_normal()


class Affine(nnx.Module):
    """Kernel and bias of `W h + b`."""

    def __init__(
        self, inputs: int, outputs: int, *, axes: tuple[str | None, ...], rngs: nnx.Rngs
    ):
        kernel = _INITIAL(rngs.params(), (inputs, outputs), jnp.float32)
        self.kernel = nnx.Param(kernel, axes=axes)
        self.bias = nnx.Param(jnp.zeros(outputs), axes=axes[1:])

    def arrays(self) -> tuple[Float[Array, "n m"], Float[Array, " m"]]:
        """Return kernel and bias."""
        return self.kernel[...], self.bias[...]
