"""Penalties on log-normalisers: of the output logits and of the routers."""

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp

from losses import routers
from losses.base import Loss, Outputs, PerToken


@dataclasses.dataclass(frozen=True)
class ZLoss(Loss):
    """`(log Σ_v exp s_v)²`, nats², one value per token.

    Keeps logits near normalised log-probabilities, where bfloat16 is fine-grained.

    Source: Chowdhery et al. 2022, PaLM (arXiv:2204.02311), section 5, weight 1e-4.
    Not the Z-loss of arXiv:1604.08859.
    """

    needs = frozenset({"logits"})

    def __call__(self, outputs: Outputs) -> PerToken:
        return jnp.square(outputs.log_normalizer())


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouterZLoss(Loss):
    """`1/L Σ_l (log Σ_e exp r_{l,e})²`, nats², over the MoE layers l.

    `r` `[*b layer expert]` are router logits. Keeps them small, so that the float32
    softmax of the router is not saturated. Count with `mask=token_mask`, as in
    `LoadBalance`.

    layers: `"mean"` of the layers, or their `"sum"` (ST-MoE, Megatron-LM).

    Source: Zoph et al. 2022, ST-MoE (arXiv:2202.08906), eq. 5, weight 1e-3.

    Raises:
      ValueError: `layers` is no choice.
    """

    layers: routers.Layers = "mean"

    needs = frozenset({"router_logits"})

    def __post_init__(self):
        routers.check_choice("layers", self.layers, get_args(routers.Layers))

    def __call__(self, outputs: Outputs) -> PerToken:
        log_z = jax.nn.logsumexp(outputs.intermediates["router_logits"], axis=-1)
        return routers.over_layers(jnp.square(log_z), self.layers)
