"""How evenly a mixture uses its experts."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from losses import token_mask

NEEDS = frozenset({"router_logits", "router_assignments"})


def load(
    intermediates: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> jax.Array:
    """`[layer expert]`: tokens that chose each expert; padding does not count."""
    count = intermediates["router_logits"].shape[-1]
    chosen = jax.nn.one_hot(intermediates["router_assignments"], count)
    tokens = token_mask(batch).astype(jnp.float32)
    return jnp.tensordot(tokens, jnp.sum(chosen, axis=-2), axes=tokens.ndim)


def router_entropy(
    intermediates: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Entropy of the router's softmax, nats, mean over layers: its sum over tokens, and
    their number; padding does not count.
    """
    tokens = token_mask(batch).astype(jnp.float32)
    log_p = jax.nn.log_softmax(intermediates["router_logits"], axis=-1)
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    return jnp.sum(jnp.mean(entropy, axis=-1) * tokens), jnp.sum(tokens)


def summary(load: jax.Array) -> dict[str, jax.Array]:
    """Scalars for the log, from a `load` `[layer expert]`.

    load_entropy:   entropy of the load over `log E`, mean over layers; 1 is balanced.
    load_violation: `max_e load / mean load - 1`, mean over layers; 0 is balanced
                    ("MaxVio", Wang et al. 2024, arXiv:2408.15664).
    unused_experts: experts that no token chose, summed over layers. None is dropped
                    for want of room: routing here has no capacity.
    """
    experts = load.shape[-1]
    share = load / jnp.maximum(jnp.sum(load, axis=-1, keepdims=True), 1.0)
    entropy = jnp.sum(jax.scipy.special.entr(share), axis=-1)
    return {
        "load_entropy": jnp.mean(entropy) / jnp.log(experts),
        "load_violation": jnp.mean(jnp.max(share, axis=-1)) * experts - 1.0,
        "unused_experts": jnp.sum(load == 0, dtype=jnp.float32),
    }
