"""Feed-forward blocks: gated ones of Llama, Qwen and Gemma, plain ones of GPT."""

import functools
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from models import checks, sharding
from models.adapters.low_rank import Adapters
from models.base import Configurable
from models.initializers import FAN_IN, Initializer, Scaled
from models.kernels.forward_mode import forward_mode
from models.kernels.token_blocks import KEPT


def gelu_sigmoid(x: jax.Array) -> jax.Array:
    """`x σ(1.702 x)` (Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2)."""
    return x * jax.nn.sigmoid(1.702 * x)


Activation = Callable[[jax.Array], jax.Array]
ACTIVATIONS: dict[str, Activation] = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_exact": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_sigmoid": gelu_sigmoid,
}


class GatedMLP(Configurable):
    """`(activation(x W_gate) * x W_up) W_down`; SwiGLU with silu, GeGLU with gelu.

    Args:
      dim: width of inputs and outputs.
      hidden_dim: inner width; None is `8/3 dim` rounded up to a multiple of 32, as
        many parameters as a plain block of width `4 dim`.
      activation: a name in `ACTIVATIONS`.
      init: of all kernels.
      output_scale: factor on the initial values of `W_down`.
      dtype: type of the products.
      param_dtype: type of the kernels.
      rngs: of the initial values.

    Source: Shazeer 2020 (arXiv:2002.05202), equation 6.
    """

    intermediates: ClassVar[frozenset[str]] = frozenset()
    position_wise: ClassVar[bool] = True
    adapters: Adapters | None = None

    def __init__(
        self,
        *,
        dim: int,
        hidden_dim: int | None = None,
        activation: str = "silu",
        init: Initializer = FAN_IN,
        output_scale: float = 1.0,
        dtype: str = "float32",
        param_dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        hidden_dim = gated_width(dim) if hidden_dim is None else hidden_dim
        checks.positive(hidden_dim=hidden_dim)
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.dtype = dtype
        into, out = (dim, hidden_dim), (hidden_dim, dim)

        def kernel(init, shape, axes):
            return sharding.parameter(init, rngs, shape, axes=axes, dtype=param_dtype)

        self.gate = kernel(init, into, ("embed", "mlp"))
        self.up = kernel(init, into, ("embed", "mlp"))
        self.down = kernel(Scaled(init, output_scale), out, ("mlp", "embed"))

    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return `[*b d]` of `x [*b d]`, and no intermediates."""
        activation = ACTIVATIONS[self.activation]
        # With the tokens on one axis the backward matmuls of XLA on CPU take half as
        # long: 13 ms and not 26 for both passes (1,024 tokens, 192 by 512).
        flat = x.reshape(-1, x.shape[-1])
        gate = flat @ self.gate[...].astype(self.dtype)
        up = flat @ self.up[...].astype(self.dtype)
        if self.adapters is not None:
            gate = self.adapters.add("gate", flat, gate)
            up = self.adapters.add("up", flat, up)
        gate = checkpoint_name(gate, KEPT)  # `up`, as large, is made again
        inner = _gated(gate, up, activation)
        y = inner @ self.down[...].astype(self.dtype)
        if self.adapters is not None:
            y = self.adapters.add("down", inner, y)
        return y.reshape(x.shape), {}


class MLP(Configurable):
    """`activation(x W_up + b_up) W_down + b_down`.

    Args:
      dim: width of inputs and outputs.
      hidden_dim: inner width; None is `4 dim`.
      activation: a name in `ACTIVATIONS`.
      bias: whether there are `b_up` and `b_down`.
      init: of all kernels.
      output_scale: factor on the initial values of `W_down`.
      dtype: type of the products.
      param_dtype: type of the parameters.
      rngs: of the initial values.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), equation 2.
    """

    intermediates: ClassVar[frozenset[str]] = frozenset()
    position_wise: ClassVar[bool] = True
    adapters: Adapters | None = None

    def __init__(
        self,
        *,
        dim: int,
        hidden_dim: int | None = None,
        activation: str = "gelu",
        bias: bool = True,
        init: Initializer = FAN_IN,
        output_scale: float = 1.0,
        dtype: str = "float32",
        param_dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        checks.positive(hidden_dim=hidden_dim)
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.dtype = dtype

        def parameter(init, shape, axes):
            return sharding.parameter(init, rngs, shape, axes=axes, dtype=param_dtype)

        zeros = jax.nn.initializers.zeros
        scaled = Scaled(init, output_scale)
        self.up = parameter(init, (dim, hidden_dim), ("embed", "mlp"))
        self.down = parameter(scaled, (hidden_dim, dim), ("mlp", "embed"))
        self.up_bias = parameter(zeros, (hidden_dim,), ("mlp",)) if bias else None
        self.down_bias = parameter(zeros, (dim,), (None,)) if bias else None

    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return `[*b d]` of `x [*b d]`, and no intermediates."""
        flat = x.reshape(-1, x.shape[-1])  # as in `GatedMLP`
        up = checkpoint_name(self.before_activation(flat), KEPT)
        inner = ACTIVATIONS[self.activation](up)
        y = inner @ self.down[...].astype(self.dtype)
        if self.adapters is not None:
            y = self.adapters.add("down", inner, y)
        return self._biased(y, self.down_bias).reshape(x.shape), {}

    def before_activation(self, x: jax.Array) -> jax.Array:
        """Return `x W_up + b_up`, `[*b hidden_dim]`."""
        y = x @ self.up[...].astype(self.dtype)
        if self.adapters is not None:
            y = self.adapters.add("up", x, y)
        return self._biased(y, self.up_bias)

    def _biased(self, y: jax.Array, bias: nnx.Param | None) -> jax.Array:
        if bias is None:
            return y
        return y + jnp.broadcast_to(bias[...].astype(self.dtype), y.shape)


def _product(gate: jax.Array, up: jax.Array, activation: Activation) -> jax.Array:
    return activation(gate) * up


# Autodiff keeps what the activation is made of, four arrays of this size in all.
def _product_forward(gate, up, activation):
    return _product(gate, up, activation), (gate, up)


def _product_backward(activation, residuals, cotangent):
    # Without the barrier the compiler merges this with the forward pass, and keeps it.
    gate, up = jax.lax.optimization_barrier(residuals)
    product = functools.partial(_product, activation=activation)
    return jax.vjp(product, gate, up)[1](cotangent)


_product_of_inputs = jax.custom_vjp(_product, nondiff_argnums=(2,))
_product_of_inputs.defvjp(_product_forward, _product_backward)


def _gated(gate: jax.Array, up: jax.Array, activation: Activation) -> jax.Array:
    """Return `activation(gate) * up`, of which training keeps the two inputs alone."""
    product = _product if forward_mode.value else _product_of_inputs
    return product(gate, up, activation)


def gated_width(dim: int) -> int:
    """Return `8/3 dim`, rounded up to a multiple of 32."""
    return -(-8 * dim // 96) * 32
