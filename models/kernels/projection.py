"""Output projection: one matmul forward, two backward, accumulated in float32."""

from typing import cast

import jax
import jax.numpy as jnp

from models.kernels.forward_mode import forward_mode


def logits(hidden: jax.Array, table: jax.Array, dtype: str) -> jax.Array:
    """`Σ_d h_d W_vd`, `[*b d]` and `[v d]` to `[*b v]`, multiplied in `dtype`.

    Products are accumulated, and logits returned, in float32. So are the gradients,
    whose cotangents are rounded to `dtype` first: with float32 cotangents both matmuls
    of the backward pass would run in float32 whatever `dtype` is. (They do for float16,
    whose range is too small for the gradients of a mean over many tokens.)
    """
    product = _plain if forward_mode.value else _logits
    return cast(jax.Array, product(hidden, table, dtype))


def _plain(hidden: jax.Array, table: jax.Array, dtype: str) -> jax.Array:
    return _product("...d,vd->...v", hidden, table, dtype)


def _forward(hidden: jax.Array, table: jax.Array, dtype: str) -> tuple:
    return _product("...d,vd->...v", hidden, table, dtype), (hidden, table)


def _backward(dtype: str, residuals: tuple, cotangent: jax.Array) -> tuple:
    hidden, table = residuals
    backward_dtype = "float32" if dtype == "float16" else dtype
    d_hidden = _product("...v,vd->...d", cotangent, table, backward_dtype)
    d_table = _product("...v,...d->vd", cotangent, hidden, backward_dtype)
    return d_hidden.astype(hidden.dtype), d_table.astype(table.dtype)


_logits = jax.custom_vjp(_plain, nondiff_argnums=(2,))
_logits.defvjp(_forward, _backward)


def _product(equation: str, a: jax.Array, b: jax.Array, dtype: str) -> jax.Array:
    return jnp.einsum(
        equation,
        a.astype(dtype),
        b.astype(dtype),
        preferred_element_type=jnp.float32,
    )
