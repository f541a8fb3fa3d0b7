"""Filter of small entries in the gradient of the logits. Off by default."""

import jax
import jax.numpy as jnp


def large(d_logits: jax.Array, threshold: jax.Array) -> jax.Array:
    """Return `d_logits`, zero where its magnitude is below `threshold`; NaN stays."""
    return jnp.where(jnp.abs(d_logits) < threshold, 0.0, d_logits)


@jax.custom_vjp
def filtered(logits: jax.Array, threshold: jax.Array) -> jax.Array:
    """Return `logits`; its gradient goes on only where it is `large`."""
    del threshold
    return logits


def _forward(logits: jax.Array, threshold: jax.Array) -> tuple[jax.Array, jax.Array]:
    return logits, threshold


def _backward(threshold: jax.Array, d_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    return large(d_logits, threshold), jnp.zeros_like(threshold)


filtered.defvjp(_forward, _backward)
