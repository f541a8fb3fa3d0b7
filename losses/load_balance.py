"""Load balance over the experts of a mixture."""

import dataclasses

import jax
import jax.numpy as jnp

from losses.base import Loss, Outputs, PerToken


@dataclasses.dataclass(frozen=True)
class LoadBalance(Loss):
    """`1/L Σ_l E/k Σ_e f_{l,e} p_{l,e}`: 1 when balanced, `E/k` when all go to k.

    `p` `[*b layer expert]` is the router's softmax for this token, `f_{l,e}` the share
    of all counted tokens of the global batch that chose expert e among their k, so
    that `Σ_e f_{l,e} = k`. The mean over tokens is the product form of the source;
    because `f` carries no gradient and is known for the whole batch, it is exact under
    accumulation, token blocks and any mesh.

    Source: Fedus et al. 2021, Switch Transformer (arXiv:2101.03961), eq. 4-6, there
    with k = 1 and layers summed; weight 1e-2.
    """

    needs = frozenset({"router_logits", "router_assignments"})

    def statistics(self, outputs: Outputs) -> dict[str, jax.Array]:
        """`share` `[*b layer expert]`: 1 where the token chose the expert."""
        experts = outputs.intermediates["router_logits"].shape[-1]
        chosen = outputs.intermediates["router_assignments"]
        return {
            "share": jnp.sum(
                jax.nn.one_hot(chosen, experts, dtype=jnp.float32), axis=-2
            )
        }

    def __call__(self, outputs: Outputs) -> PerToken:
        logits = outputs.intermediates["router_logits"]
        k = outputs.intermediates["router_assignments"].shape[-1]
        probabilities = jax.nn.softmax(logits, axis=-1)
        share = outputs.statistics["share"]
        per_layer = jnp.einsum("...le,le->...l", probabilities, share)
        return jnp.mean(per_layer, axis=-1) * (logits.shape[-1] / k)
