"""Expert load: tokens per expert, and the expert biases that follow it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from losses import token_mask
from models.base import Model
from models.routing import expert_bias
from models.routing.expert_bias import ExpertBias
from runner.state.trees import leaf, with_leaf

Tree = Any

Bias = tuple[tuple[str, ...], float]
"""Path of an expert bias among the student's variables, and its rate."""

NEEDS = frozenset({"router_logits", "router_assignments"})


def load(
    intermediates: Mapping[str, Array], batch: Mapping[str, Array]
) -> Float[Array, "layer expert"]:
    """Return the tokens that chose each expert; padding does not count."""
    count = intermediates["router_logits"].shape[-1]
    chosen = jax.nn.one_hot(intermediates["router_assignments"], count)
    tokens = token_mask(batch).astype(jnp.float32)
    return jnp.tensordot(tokens, jnp.sum(chosen, axis=-2), axes=tokens.ndim)


def router_entropy(
    intermediates: Mapping[str, Array], batch: Mapping[str, Array]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the entropy of the routers, nats, summed over tokens, and their number.

    It is that of the softmax, averaged over layers; padding does not count.
    """
    tokens = token_mask(batch).astype(jnp.float32)
    log_p = jax.nn.log_softmax(intermediates["router_logits"], axis=-1)
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    return jnp.sum(jnp.mean(entropy, axis=-1) * tokens), jnp.sum(tokens)


def summary(load: Float[Array, "layer expert"]) -> dict[str, Float[Array, ""]]:
    """Return scalars for the log.

    Args:
      load: tokens per expert.

    Returns:
      load_entropy: entropy of the load over `log E`, mean over layers; 1 is balanced.
      load_violation: `max_e load / mean load - 1`, mean over layers; 0 is balanced
        ("MaxVio", Wang et al. 2024, arXiv:2408.15664).
      unused_experts: experts that no token chose, summed over layers. No token is
        dropped for want of room: routing here has no capacity.
    """
    experts = load.shape[-1]
    share = load / jnp.maximum(jnp.sum(load, axis=-1, keepdims=True), 1.0)
    entropy = jnp.sum(jax.scipy.special.entr(share), axis=-1)
    return {
        "load_entropy": jnp.mean(entropy) / jnp.log(experts),
        "load_violation": jnp.mean(jnp.max(share, axis=-1)) * experts - 1.0,
        "unused_experts": jnp.sum(load == 0, dtype=jnp.float32),
    }


def biases(student: Model) -> list[Bias]:
    """Return the expert biases of a student that a step moves, in layers' order."""
    paths = [
        (path, variable.get_metadata()["rate"])
        for path, variable in nnx.to_flat_state(nnx.state(student, ExpertBias))
    ]
    paths.sort(key=lambda place: [(isinstance(x, str), x) for x in place[0]])
    return [(tuple(map(str, path)), rate) for path, rate in paths if rate]


def update_biases(
    biases: Sequence[Bias], variables: Tree, load: Float[Array, "layer expert"]
) -> Tree:
    """Return `TrainState.variables` with the expert biases after a step.

    Args:
      biases: of the student.
      variables: before the step.
      load: tokens per expert over the global batch, so that the outcome depends on
        neither microbatches nor mesh.
    """
    student, first = variables["student"], 0
    for path, rate in biases:
        bias = leaf(student, path)
        layers = 1 if bias.ndim == 1 else bias.shape[0]
        layer_load = load[first : first + layers].reshape(bias.shape)
        bias = expert_bias.update(bias, layer_load, rate=rate)
        student = with_leaf(student, path, bias)
        first += layers
    return {**variables, "student": student}
