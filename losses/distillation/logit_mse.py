"""Squared distance between the logits of teacher and student."""

import dataclasses

from losses.core.outputs import PerToken
from losses.distillation.logit_distance import LogitDistance
from losses.functional import logit_distances
from losses.functional.logit_distances import Logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitMSE(LogitDistance):
    """`1/V Σ_v ((s_v - t_v) / T)²`, times T² if `scale_by_temperature_squared`.

    Entries that are -inf on either side are left out of V too.

    Source: Ba and Caruana 2013 (arXiv:1312.6184), there half the sum over v.
    """

    unit = "nats²"

    def distance(self, s: Logits, t: Logits) -> Logits:
        return logit_distances.squared_distance(s, t)

    def reduce(self, total: PerToken, count: PerToken) -> PerToken:
        return logit_distances.mean_of_sums(total, count)
