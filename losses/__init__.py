"""Losses: one value per token, divided by nothing. See `losses.core`."""

from losses import functional, renamed
from losses.core.batch_weights import Balance, Reweighting
from losses.core.loss import Loss, TokenWeight
from losses.core.of_means import OfMeans
from losses.core.outputs import (
    FullOutputs,
    IncompatibleLoss,
    NeedsFullLogits,
    Outputs,
    PerToken,
    RecordSpec,
    TeacherOutputs,
)
from losses.core.term_values import (
    TokenValues,
    average,
    evaluate,
    per_token,
    statistic_sums,
    wants_means,
)
from losses.core.terms import Group, LossTerm, target_mask, token_mask
from losses.core.vocab_sums import Distribution, Tile, TiledOutputs
from losses.core.vocab_sums_pass import SumRequests
from losses.cross_entropy import CrossEntropy, SmoothedCrossEntropy
from losses.distillation.adaptive_kl import AdaptiveKL
from losses.distillation.alignment import SparseMode
from losses.distillation.binary_kl import BinaryKL, BinaryKLNorm
from losses.distillation.correlation import InterClassCorrelation, IntraClassCorrelation
from losses.distillation.decoupled import DecoupledKD, NormalizedKD
from losses.distillation.divergence import Divergence
from losses.distillation.kl import (
    ForwardKL,
    JensenShannon,
    ReverseKL,
    SkewForwardKL,
    SkewReverseKL,
    SymmetricKL,
)
from losses.distillation.logit_mse import LogitMSE
from losses.distillation.own_head import OwnHead
from losses.distillation.plackett_luce import PlackettLuce
from losses.distillation.power_divergences import (
    AlphaDivergence,
    RenyiDivergence,
    TotalVariation,
)
from losses.distillation.standardized import Standardized
from losses.entropy import ConfidencePenalty
from losses.features.attention_maps import AttentionKL, AttentionMSE
from losses.features.cka import CKA
from losses.features.hidden_states import FeatureCosine, FeatureMSE
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
    RowTable,
    Span,
)
from losses.weighting.token_weights import Position, TeacherConfidence, TeacherEntropy
from losses.weighting.weights import balances, term_reports, term_weights
from losses.z_loss import ZLoss

__all__ = [
    "CKA",
    "AdaptiveKL",
    "AlphaDivergence",
    "AttentionKL",
    "AttentionMSE",
    "Balance",
    "BinaryKL",
    "BinaryKLNorm",
    "ConfidencePenalty",
    "CrossEntropy",
    "DecoupledKD",
    "Distribution",
    "Divergence",
    "FeatureCosine",
    "FeatureMSE",
    "ForwardKL",
    "FullOutputs",
    "Group",
    "IncompatibleLoss",
    "InterClassCorrelation",
    "IntraClassCorrelation",
    "JensenShannon",
    "LearningProgress",
    "LoadBalance",
    "LogitMSE",
    "Loss",
    "LossTerm",
    "MatchGradient",
    "MatchValue",
    "NeedsFullLogits",
    "NormalizedKD",
    "OfMeans",
    "Outputs",
    "OwnHead",
    "PerToken",
    "PlackettLuce",
    "Position",
    "Projected",
    "RecordSpec",
    "Relations",
    "RelativeLoss",
    "RenyiDivergence",
    "ReverseKL",
    "Reweighting",
    "RouterDistillation",
    "RouterZLoss",
    "RowTable",
    "SequenceLoadBalance",
    "SkewForwardKL",
    "SkewReverseKL",
    "SmoothedCrossEntropy",
    "Span",
    "SparseMode",
    "Standardized",
    "SumRequests",
    "SymmetricKL",
    "TeacherConfidence",
    "TeacherEntropy",
    "TeacherOutputs",
    "Tile",
    "TiledOutputs",
    "TokenValues",
    "TokenWeight",
    "TotalVariation",
    "Uncertainty",
    "ZLoss",
    "average",
    "balances",
    "evaluate",
    "functional",
    "per_token",
    "statistic_sums",
    "target_mask",
    "term_reports",
    "term_weights",
    "token_mask",
    "uniform_map",
    "wants_means",
]

renamed.add_to(globals())
