"""Penalty on the log-normaliser of the routers."""

import dataclasses
from typing import get_args

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.masks import token_mask
from losses.core.outputs import Outputs, PerToken
from losses.functional.routers import router_z_loss
from losses.moe import routers


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouterZLoss(Loss):
    """`1/L Σ_l (log Σ_e exp r_{l,e})²`, nats², over the MoE layers l.

    `r` `[*b layer expert]` are router logits. Keeps them small, so that the float32
    softmax of the router is not saturated. Counts every token that is not padding, as
    `LoadBalance` does.

    layers: `"mean"` of the layers, or their `"sum"` (ST-MoE, Megatron-LM).

    Source: Zoph et al. 2022, ST-MoE (arXiv:2202.08906), eq. 5, weight 1e-3.

    Raises:
      ValueError: `layers` is no choice.
    """

    layers: routers.Layers = "mean"

    needs = frozenset({"router_logits"})
    default_mask = staticmethod(token_mask)
    tiled = True
    unit = "nats²"

    def __post_init__(self):
        check_choice("layers", self.layers, get_args(routers.Layers))

    def __call__(self, outputs: Outputs) -> PerToken:
        logits = outputs.intermediates["router_logits"]
        return router_z_loss(logits, layers=self.layers)
