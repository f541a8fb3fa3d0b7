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
from losses.load_balance import LoadBalance, SequenceLoadBalance
from losses.logit_mse import LogitMse
from losses.of_means import OfMeans
from losses.online import Requests
from losses.power_divergences import AlphaDivergence, RenyiDivergence, TotalVariation
from losses.router_distillation import RouterDistillation
from losses.sums import average, evaluate, per_token, statistic_sums
from losses.tiles import Distribution, NeedsRows, Reduced, Tile
from losses.z_loss import RouterZLoss, ZLoss

__all__ = [
    "AdaptiveKl",
    "AlphaDivergence",
    "ConfidencePenalty",
    "CrossEntropy",
    "Distribution",
    "Divergence",
    "ForwardKl",
    "JensenShannon",
    "LoadBalance",
    "LogitMse",
    "Loss",
    "LossTerm",
    "NeedsRows",
    "OfMeans",
    "Outputs",
    "OverRecords",
    "PerToken",
    "Reduced",
    "RenyiDivergence",
    "Requests",
    "ReverseKl",
    "RouterDistillation",
    "RouterZLoss",
    "SequenceLoadBalance",
    "SkewForwardKl",
    "SkewReverseKl",
    "SmoothedCrossEntropy",
    "Stored",
    "SymmetricKl",
    "TeacherOutputs",
    "Tile",
    "TotalVariation",
    "ZLoss",
    "average",
    "evaluate",
    "per_token",
    "statistic_sums",
    "target_mask",
    "token_mask",
]
