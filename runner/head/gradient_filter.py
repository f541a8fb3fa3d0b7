"""Leaving out what of the logits' gradient is too small to matter. Off by default."""

import jax
import jax.numpy as jnp


def large(d_logits: jax.Array, least: jax.Array) -> jax.Array:
    """`d_logits` without the entries smaller in magnitude than `least`."""
    return jnp.where(jnp.abs(d_logits) >= least, d_logits, 0.0)


@jax.custom_vjp
def filtered(logits: jax.Array, least: jax.Array) -> jax.Array:
    """`logits`, of whose gradient only what is `large` goes on."""
    del least
    return logits


def _forward(logits: jax.Array, least: jax.Array) -> tuple[jax.Array, jax.Array]:
    return logits, least


def _backward(least: jax.Array, d_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    return large(d_logits, least), jnp.zeros_like(least)


filtered.defvjp(_forward, _backward)
