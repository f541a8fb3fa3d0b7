"""Low-rank adapters beside the kernels of one module."""

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

NAME = "adapters"
"""The attribute that holds them, and so an entry of the path of each."""

_Array = TypeVar("_Array", bound=np.ndarray | jax.Array)


class LowRank(nnx.Module):
    """`scale · (x A) B`, what an adapter adds to `x W`.

    Args:
      a: `A`, `[*n inputs.. rank]`, where `*n` are axes of `W` that number independent
        matrices: layers, experts.
      b: `B`, `[*n rank outputs..]`.
      inputs: number of axes that a product with `W` sums over.
      scale: `alpha / rank`.

    Source: Hu et al. 2021 (arXiv:2106.09685), equation 3.
    """

    def __init__(self, a: nnx.Param, b: nnx.Param, *, inputs: int, scale: float):
        self.a, self.b = a, b
        self.inputs, self.scale = inputs, scale

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `[*b outputs..]` of `x [*b inputs..]`, in the type of `x`."""
        a, b = self.a[...].astype(x.dtype), self.b[...].astype(x.dtype)
        low = jnp.tensordot(x, a, axes=self.inputs)
        return jnp.tensordot(low, b, axes=1) * self.scale

    def delta(self) -> jax.Array:
        """Return `scale · A B` in the shape of `W`."""
        return self.scale * product(self.a[...], self.b[...], inputs=self.inputs)


class Adapters(nnx.Module):
    """Adapters of some kernels of a module, by their names.

    A module that can have them declares `adapters: Adapters | None = None`.
    """

    def add(self, name: str, x: jax.Array, y: jax.Array) -> jax.Array:
        """Return `y`, the product of `x` and a kernel, with what its adapter adds."""
        adapter = getattr(self, name, None)
        return y if adapter is None else y + adapter(x).astype(y.dtype)

    def merged(self, name: str, kernel: jax.Array) -> jax.Array:
        """Return a kernel with its adapter in it, `W + scale · A B`."""
        adapter = getattr(self, name, None)
        return (
            kernel if adapter is None else kernel + adapter.delta().astype(kernel.dtype)
        )


def is_of(path: str) -> bool:
    """Return true for the path of an adapter's parameter."""
    return NAME in path.split("/")


def product(a: _Array, b: _Array, *, inputs: int) -> Any:
    """Return `A B`, `[*n inputs.. outputs..]`, of arrays as `LowRank` has them."""
    numbers, rank = a.shape[: a.ndim - 1 - inputs], a.shape[-1]
    before, after = a.shape[:-1], b.shape[len(numbers) + 1 :]
    left = a.reshape(*numbers, math.prod(before[len(numbers) :]), rank)
    right = b.reshape(*numbers, rank, math.prod(after))
    return (left @ right).reshape(*before, *after)
