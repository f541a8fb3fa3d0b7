"""A mixture of experts that starts as copies of a dense model's layers."""

import dataclasses

import numpy as np

from runner.errors import UserError
from runner.starts.base import StartContext
from runner.starts.weights_start import Weights, WeightsStart, wanted
from runner.weights import tensors
from runner.weights.tensors import StoredTensor

_KERNELS = ("mlp/gate", "mlp/up", "mlp/down")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upcycled(WeightsStart):
    """Every expert is the dense model's feed-forward layer; routers are fresh.

    All else is loaded as it is. With `MoE(renormalize=True)` the gates of a token add
    up to 1, and the first logits are those of the dense model; without, its experts'
    outputs are scaled by the sum of the gates. Shared experts have nothing to start
    from, and are refused.

    Attributes:
      start: gives the dense weights: `Published`, `Run`, `FromTeacher`, whose neurons
        are then those of an expert.

    Source: Komatsuzaki et al. 2022 (arXiv:2212.05055), section 3.
    """

    start: WeightsStart

    def check(self) -> None:
        self.start.check()

    def weights(self, context: StartContext) -> Weights:
        routers = {
            path: x.shape[-1]
            for path, x in wanted(context)[0].items()
            if path.endswith("mlp/router")
        }
        if not routers:
            raise UserError("Upcycled: the student has no experts: mlp=models.MoE")
        experts = next(iter(routers.values()))
        dense = self.start.weights(context)
        separate = tensors.unstacked(dense.tensors)
        if "blocks/0/mlp/router" in separate:
            raise UserError(
                f"Upcycled: {dense.source['path']} has experts already: it can be the "
                "start itself"
            )
        return dataclasses.replace(
            dense,
            source={**dense.source, "experts": experts},
            tensors={
                path: _copies(x, experts) if path.endswith(_KERNELS) else x
                for path, x in separate.items()
            },
            fresh=dense.fresh | routers.keys(),
        )


def _copies(tensor: StoredTensor, experts: int) -> StoredTensor:
    """Return one for all experts, `[expert ...]`; only one is ever read."""
    shape = (experts, *tensor.shape)
    return dataclasses.replace(
        tensor, shape=shape, read=lambda: np.broadcast_to(tensor.read(), shape)
    )
