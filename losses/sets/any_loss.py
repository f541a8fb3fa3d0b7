"""Metrics of a binary decision as losses (AnyLoss)."""

import dataclasses
import math
from typing import get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.checks import check_choice
from losses.core.of_means import Means, OfMeans
from losses.core.outputs import Outputs, PerToken
from losses.functional import sets


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnyLoss(OfMeans):
    """`1 - metric`, of the amplified probability of one id, over the global batch.

        A = 1 / (1 + exp(-L (q - 1/2)))        q the probability of `positive`

    With `Ȧ`, `ẏ` and `Ȧy` the means of A, of the labels and of their product:

    * `"accuracy"`: `1 - Ȧ - ẏ + 2 Ȧy`;
    * `"f_beta"`: `(1 + β²) Ȧy / (β² ẏ + Ȧ)`;
    * `"balanced_accuracy"`: the mean of the two recalls;
    * `"g_mean"`: the root of their product.

    Where every A is 0 or 1 it is one minus the metric itself. All but the accuracy are
    no sums over tokens; here they are exact under accumulation and any mesh, which no
    release is. A batch that lacks a class has a recall of 0 for it. At the published L
    float32 saturates from `|q - 1/2|` of about 0.24 on, and has no gradient there.

    Source: Han et al. 2024 (arXiv:2405.14745), section 3; `"f_beta"` with
    `sharpness=None` is the Dice loss over a set of arXiv:1911.02855.

    Attributes:
      metric: the metric.
      positive: the id whose probability is q; all others are its negatives.
      sharpness: L; None for A = q.
      beta: of `"f_beta"`.

    Raises:
      ValueError: there is no such metric, or a number is not positive and finite.
    """

    metric: sets.Metric = "f_beta"
    positive: int = 1
    sharpness: float | None = 73.0
    beta: float = 1.0
    needs = frozenset({"logits"})
    tiled = True
    unit = "1"

    def __post_init__(self):
        check_choice("metric", self.metric, get_args(sets.Metric))
        if self.positive < 0:
            raise ValueError(f"positive must be an id, got {self.positive}")
        for name in ("sharpness", "beta"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")

    def statistics(self, outputs: Outputs) -> dict[str, PerToken]:
        """Return A, the labels and their product, `[*b]`."""
        targets = outputs.batch["targets"]
        ids = jnp.full((*targets.shape, 1), self.positive, jnp.int32)
        log_q = outputs.logits_at(ids)[..., 0] - outputs.log_normalizer()
        is_positive = targets == self.positive
        return sets.confusion_moments(log_q, is_positive, sharpness=self.sharpness)

    def of_means(self, means: Means) -> Float[Array, ""]:
        return sets.any_loss_of_means(means, metric=self.metric, beta=self.beta)
