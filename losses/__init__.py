"""Losses: one value per token, divided by nothing. See `losses.base`."""

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
from losses.entropy import ConfidencePenalty
from losses.load_balance import LoadBalance
from losses.z_loss import RouterZLoss, ZLoss

__all__ = [
    "ConfidencePenalty",
    "CrossEntropy",
    "LoadBalance",
    "Loss",
    "LossTerm",
    "Outputs",
    "PerToken",
    "RouterZLoss",
    "SmoothedCrossEntropy",
    "Stored",
    "TeacherOutputs",
    "ZLoss",
    "average",
    "evaluate",
    "per_token",
    "statistic_sums",
    "target_mask",
    "token_mask",
]
