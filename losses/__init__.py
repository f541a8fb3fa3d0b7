"""Losses: one value per token, divided by nothing. See `losses.base`."""

from losses.adaptive_kl import AdaptiveKl
from losses.alignment import OverRecords
from losses.base import (
    Loss,
    LossTerm,
    Outputs,
    PerToken,
    Stored,
    TeacherOutputs,
    average,
    evaluate,
    per_token,
    statistic_sums,
    target_mask,
    token_mask,
)
from losses.cross_entropy import CrossEntropy, SmoothedCrossEntropy
from losses.divergence import Divergence
from losses.entropy import ConfidencePenalty
from losses.kl import (
    ForwardKl,
    JensenShannon,
    ReverseKl,
    SkewForwardKl,
    SkewReverseKl,
    SymmetricKl,
)
from losses.load_balance import LoadBalance
from losses.logit_mse import LogitMse
from losses.power_divergences import AlphaDivergence, RenyiDivergence, TotalVariation
from losses.z_loss import RouterZLoss, ZLoss

__all__ = [
    "AdaptiveKl",
    "AlphaDivergence",
    "ConfidencePenalty",
    "CrossEntropy",
    "Divergence",
    "ForwardKl",
    "JensenShannon",
    "LoadBalance",
    "LogitMse",
    "Loss",
    "LossTerm",
    "Outputs",
    "OverRecords",
    "PerToken",
    "RenyiDivergence",
    "ReverseKl",
    "RouterZLoss",
    "SkewForwardKl",
    "SkewReverseKl",
    "SmoothedCrossEntropy",
    "Stored",
    "SymmetricKl",
    "TeacherOutputs",
    "TotalVariation",
    "ZLoss",
    "average",
    "evaluate",
    "per_token",
    "statistic_sums",
    "target_mask",
    "token_mask",
]
