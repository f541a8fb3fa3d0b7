"""Losses: one value per token, divided by nothing. See `losses.core.base`."""

from losses.core.base import (
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
from losses.core.groups import Group
from losses.core.of_means import OfMeans
from losses.core.term_values import (
    TokenValues,
    average,
    evaluate,
    per_token,
    statistic_sums,
    wants_means,
)
from losses.core.vocab_sums import Distribution, NeedsRows, Reduced, Tile
from losses.core.vocab_sums_pass import Requests
from losses.cross_entropy import CrossEntropy, SmoothedCrossEntropy
from losses.distillation.adaptive_kl import AdaptiveKl
from losses.distillation.alignment import OverRecords
from losses.distillation.binary_kl import BinaryKl, BinaryKlNorm
from losses.distillation.correlation import InterClassCorrelation, IntraClassCorrelation
from losses.distillation.decoupled import DecoupledKd, NormalisedKd
from losses.distillation.divergence import Divergence
from losses.distillation.kl import (
    ForwardKl,
    JensenShannon,
    ReverseKl,
    SkewForwardKl,
    SkewReverseKl,
    SymmetricKl,
)
from losses.distillation.logit_mse import LogitMse
from losses.distillation.own_head import OwnHead
from losses.distillation.plackett_luce import PlackettLuce
from losses.distillation.power_divergences import (
    AlphaDivergence,
    RenyiDivergence,
    TotalVariation,
)
from losses.distillation.standardized import Standardised
from losses.entropy import ConfidencePenalty
from losses.features.attention_maps import AttentionKl, AttentionMse
from losses.features.cka import Cka
from losses.features.hidden_states import FeatureCosine, FeatureMse
from losses.features.layer_pairs import uniform_map
from losses.features.projected import Projected
from losses.features.relations import Relations
from losses.moe.load_balance import LoadBalance, SequenceLoadBalance
from losses.moe.router_distillation import RouterDistillation
from losses.moe.router_z_loss import RouterZLoss
from losses.weighting.balance import MatchGradient, MatchValue, Uncertainty
from losses.weighting.reweighting import (
    LearningProgress,
    RelativeLoss,
    Reweighting,
    RowTable,
    Span,
)
from losses.weighting.token_weights import Position, TeacherConfidence, TeacherEntropy
from losses.weighting.weights import Balance, balances, weigh, worth
from losses.z_loss import ZLoss

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
