"""Binary KL divergences: each logit is a Bernoulli variable of its own."""

import dataclasses

from losses.distillation.logit_distance import LogitDistance
from losses.functional import logit_distances
from losses.functional.logit_distances import Logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryKL(LogitDistance):
    """`Σ_v KL(Bern σ(t_v / T) ‖ Bern σ(s_v / T))`, nats.

    Computed as `σ(t)(t - s) + softplus(s) - softplus(t)`, finite for any logits; the
    gradient in `s_v / T` is `σ(s_v / T) - σ(t_v / T)`. Unlike under a softmax, the
    level of the logits is learnt. Both forms here grow with V: a weight that fits 100
    entries does not fit 1,000.

    Source: DHKD (arXiv:2411.08937), T = 2 with `scale_by_temperature_squared`, there on
    a head of its own, see `OwnHead`.
    """

    def distance(self, s: Logits, t: Logits) -> Logits:
        return logit_distances.bernoulli_kl(s, t)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryKLNorm(LogitDistance):
    """`Σ_v KL(Bern 1/2 ‖ Bern σ((s_v - t_v) / T)) = Σ_v log cosh((s_v - t_v) / 2T)`.

    Nats. The gradient in a logit is `tanh((s_v - t_v) / 2T) / 2T`: at most `1/2T`
    (times T² if `scale_by_temperature_squared`), however far the two are apart. With
    that scale it tends to `1/8 Σ_v (s_v - t_v)²` as T grows.

    Source: DHKD (arXiv:2411.08937), the form its training script uses, T = 2 with
    `scale_by_temperature_squared`; there of probabilities clamped to 1e-8, which
    float32 rounds to none, so that log 0 is met at gaps beyond 33.
    """

    def distance(self, s: Logits, t: Logits) -> Logits:
        return logit_distances.bernoulli_kl_of_gap(s, t)
