"""Learning from bags: of the labels, the shares in each bag are known alone."""

import dataclasses
from typing import get_args

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from losses.core.checks import check_choice
from losses.core.columns import column
from losses.core.of_means import Means, OfMeans
from losses.core.outputs import Outputs, PerToken
from losses.functional import sets


@dataclasses.dataclass(frozen=True, kw_only=True)
class BagLoss(OfMeans):
    """`(1 - ρ) L_bag + ρ L_instance`, of the shares ẏ of labels in each bag.

        L_bag = mean_a ℓ(ẏ_a, mean_{i in a} q_i)        L_instance = mean_i ℓ(ẏ_a, q_i)

    with `q = softmax(s)`, and ℓ the squared distance or the cross-entropy; bags weigh
    by their tokens. `L_instance` is never below `L_bag`; of squares, it is that plus
    the variance of q within bags, so that ρ is the weight of a regularizer. Of bags of
    one token, all three are the same.

    A bag's means are those of its counted tokens in the global batch, however this is
    cut: all of a bag belong in one batch, or what is trained is a part of it.

    Source: Javanmard et al. 2024 (arXiv:2401.11081), eq. 1 to 3.

    Attributes:
      column: of the bags, ids from 0 (`data.Columns`), of rows or of tokens; one of
        another id is in no bag.
      num_bags: of ids.
      instance_weight: ρ.
      distance: ℓ.

    Raises:
      ValueError: there is no such distance or no bag, or ρ is outside [0, 1].
    """

    column: str
    num_bags: int
    instance_weight: float = 0.1
    distance: sets.BagDistance = "squared"
    needs = frozenset({"logits"})
    tiled = False

    def __post_init__(self):
        check_choice("distance", self.distance, get_args(sets.BagDistance))
        if self.num_bags < 1:
            raise ValueError(f"num_bags must be at least 1, got {self.num_bags}")
        if not 0.0 <= self.instance_weight <= 1.0:
            raise ValueError(
                f"instance_weight must be in [0, 1], got {self.instance_weight}"
            )

    @property
    def unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return "nats" if self.distance == "cross_entropy" else "1"

    def statistic_sums(self, outputs: Outputs, tokens: PerToken) -> Means:
        log_q = self._log_q(outputs)
        return sets.bag_sums(
            log_q.reshape(-1, log_q.shape[-1]),
            outputs.batch["targets"].reshape(-1),
            self._bags(outputs).reshape(-1),
            tokens.reshape(-1),
            num_bags=self.num_bags,
            distance=self.distance,
        )

    def of_means(self, means: Means) -> Float[Array, ""]:
        return sets.bag_loss_of_means(
            means, instance_weight=self.instance_weight, distance=self.distance
        )

    def deviation(self, outputs: Outputs, slopes: Means) -> PerToken:
        """Return `<∇f, a_t - A>` for what has a gradient: q, and what is read of each.

        Shares and labels are constants: their deviations sum to 0 and are left out.
        """
        means, log_q, bags = (
            outputs.statistics,
            self._log_q(outputs),
            self._bags(outputs),
        )
        parts = {"q": jnp.exp(log_q), "each": sets.instance_part(log_q, self.distance)}
        total = jnp.zeros(bags.shape, jnp.float32)
        for name, part in parts.items():
            wide = part if part.ndim > bags.ndim else part[..., None]
            slope = slopes[name].reshape(self.num_bags, -1)
            at_token = jnp.sum(wide * slope.at[bags].get(mode="fill", fill_value=0), -1)
            total = total + at_token - jnp.sum(slopes[name] * means[name])
        return total

    def _log_q(self, outputs: Outputs) -> Float[Array, "*b v"]:
        return outputs.logits - outputs.log_normalizer()[..., None]

    def _bags(self, outputs: Outputs) -> Int[Array, "*b"]:
        return column(outputs.batch, self.column).astype(jnp.int32)
