"""Grids of numbers that a kernel can be stored on, one scale for several of them."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

LARGEST = {"int8": 127.5, "int4": 7.5, "fp8": 448.0}
"""By kind: what the largest of a scale's numbers is divided into."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """`s · q`, with q a number of `kind`, and s for `block` inputs of an output.

    Attributes:
      kind: a key of `LARGEST`: integers of 8 or 4 bits, or `float8_e4m3fn`.
      block: inputs that share a scale; None for all.
      scale_dtype: to which scales are rounded.
      inputs: axes of a kernel that a product sums over, before `outputs`.
      outputs: axes of the product, the last.
    """

    kind: str
    block: int | None
    scale_dtype: str
    inputs: int
    outputs: int

    def nearest(self, kernel: jax.Array) -> jax.Array:
        """Return the kernel on the grid, in its shape and type.

        Raises:
          ValueError: blocks do not divide its inputs.
        """
        shape = kernel.shape
        end = len(shape) - self.outputs
        begin = end - self.inputs
        size = math.prod(shape[begin:end])
        block = self.block or size
        if size % block:
            raise ValueError(f"blocks of {block} do not divide {size} inputs")
        x = kernel.astype(jnp.float32).reshape(*shape[:begin], size // block, block, -1)
        scales = self._scales(jnp.max(jnp.abs(x), axis=-2, keepdims=True))
        inverse = jnp.broadcast_to(1.0 / scales, x.shape)
        on_grid = jnp.broadcast_to(scales, x.shape) * self._numbers(x * inverse)
        return on_grid.reshape(shape).astype(kernel.dtype)

    def _scales(self, largest: jax.Array) -> jax.Array:
        # Products alone: a compiler may make one of a division, with another last bit.
        scales = largest * (1.0 / LARGEST[self.kind])
        scales = scales.astype(self.scale_dtype).astype(jnp.float32)
        tiny = float(jnp.finfo(jnp.float32).tiny) ** 0.5
        return jnp.where(scales < tiny, 1.0, scales)

    def _numbers(self, x: jax.Array) -> jax.Array:
        bound = LARGEST[self.kind]
        if self.kind == "fp8":
            clipped = jnp.clip(x, -bound, bound)
            return clipped.astype(jnp.float8_e4m3fn).astype(jnp.float32)
        # To both sides alike: whether -127.5 is -128 hangs on the last bit of a scale.
        return jnp.clip(jnp.round(x), 0.5 - bound, bound - 0.5)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def straight_through(kernel: jax.Array, grid: Grid) -> jax.Array:
    """Return the kernel on the grid, with the derivative of the kernel itself."""
    return grid.nearest(kernel)


@straight_through.defjvp
def _tangent(
    grid: Grid, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return straight_through(primals[0], grid), tangents[0]
