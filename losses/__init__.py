"""Losses: one value per token, divided by nothing. See `losses.base`."""

from losses.adaptive_kl import AdaptiveKl
from losses.alignment import OverRecords
from losses.attention_maps import AttentionKl, AttentionMse
from losses.balance import MatchGradient, MatchValue, Uncertainty
from losses.base import (
    Loss,
    LossTerm,
    Misfit,
    Outputs,
    PerToken,
    Stored,
    TeacherOutputs,
    TokenWeight,
    target_mask,
    token_mask,
)
from losses.binary_kl import BinaryKl, BinaryKlNorm
from losses.cka import Cka
from losses.correlation import InterClassCorrelation, IntraClassCorrelation
from losses.cross_entropy import CrossEntropy, SmoothedCrossEntropy
from losses.decoupled import DecoupledKd, NormalisedKd
from losses.divergence import Divergence
from losses.entropy import ConfidencePenalty
from losses.features import FeatureCosine, FeatureMse
from losses.groups import Group
from losses.kl import (
    ForwardKl,
    JensenShannon,
    ReverseKl,
    SkewForwardKl,
    SkewReverseKl,
    SymmetricKl,
)
from losses.layer_maps import uniform_map
from losses.load_balance import LoadBalance, SequenceLoadBalance
from losses.logit_mse import LogitMse
from losses.of_means import OfMeans
from losses.online import Requests
from losses.own_head import OwnHead
from losses.plackett_luce import PlackettLuce
from losses.power_divergences import AlphaDivergence, RenyiDivergence, TotalVariation
from losses.projected import Projected
from losses.relations import Relations
from losses.reweighting import (
    LearningProgress,
    RelativeLoss,
    Reweighting,
    RowTable,
    Span,
)
from losses.router_distillation import RouterDistillation
from losses.standardised import Standardised
from losses.sums import (
    TokenValues,
    average,
    evaluate,
    per_token,
    statistic_sums,
    wants_means,
)
from losses.tiles import Distribution, NeedsRows, Reduced, Tile
from losses.token_weights import Position, TeacherConfidence, TeacherEntropy
from losses.weights import Balance, balances, weigh, worth
from losses.z_loss import RouterZLoss, ZLoss

__all__ = [
    "AdaptiveKl",
    "AlphaDivergence",
    "AttentionKl",
    "AttentionMse",
    "Balance",
    "BinaryKl",
    "BinaryKlNorm",
    "Cka",
    "ConfidencePenalty",
    "CrossEntropy",
    "DecoupledKd",
    "Distribution",
    "Divergence",
    "FeatureCosine",
    "FeatureMse",
    "ForwardKl",
    "Group",
    "InterClassCorrelation",
    "IntraClassCorrelation",
    "JensenShannon",
    "LearningProgress",
    "LoadBalance",
    "LogitMse",
    "Loss",
    "LossTerm",
    "MatchGradient",
    "MatchValue",
    "Misfit",
    "NeedsRows",
    "NormalisedKd",
    "OfMeans",
    "Outputs",
    "OverRecords",
    "OwnHead",
    "PerToken",
    "PlackettLuce",
    "Position",
    "Projected",
    "Reduced",
    "Relations",
    "RelativeLoss",
    "RenyiDivergence",
    "Requests",
    "ReverseKl",
    "Reweighting",
    "RouterDistillation",
    "RouterZLoss",
    "RowTable",
    "SequenceLoadBalance",
    "SkewForwardKl",
    "SkewReverseKl",
    "SmoothedCrossEntropy",
    "Span",
    "Standardised",
    "Stored",
    "SymmetricKl",
    "TeacherConfidence",
    "TeacherEntropy",
    "TeacherOutputs",
    "Tile",
    "TokenValues",
    "TokenWeight",
    "TotalVariation",
    "Uncertainty",
    "ZLoss",
    "average",
    "balances",
    "evaluate",
    "per_token",
    "statistic_sums",
    "target_mask",
    "token_mask",
    "uniform_map",
    "wants_means",
    "weigh",
    "worth",
]
