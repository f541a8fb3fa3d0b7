"""Divergences by name, one of each class."""

import losses

BY_NAME = {
    "forward_kl": losses.ForwardKL(),
    "reverse_kl": losses.ReverseKL(),
    "symmetric_kl": losses.SymmetricKL(),
    "jensen_shannon": losses.JensenShannon(beta=0.3),
    "skew_forward_kl": losses.SkewForwardKL(),
    "skew_reverse_kl": losses.SkewReverseKL(),
    "total_variation": losses.TotalVariation(),
    "alpha_divergence": losses.AlphaDivergence(order=0.3),
    "renyi_divergence": losses.RenyiDivergence(order=2.0),
    "adaptive_kl": losses.AdaptiveKL(),
    "todi": losses.ToDi(),
}
