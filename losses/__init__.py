"""Losses: one value per token, divided by nothing.

Here are the losses, terms and weights of an experiment, and what a new loss inherits
from or is annotated with. The machinery that evaluates them is in `losses.core` and
`losses.weighting`.
"""

from losses import functional, renamed
from losses.aspects import Aspects
from losses.class_bias import ClassBias
from losses.comp_sum import CompSum
from losses.core.batch_weights import Balance, Reweighting
from losses.core.columns import ColumnMask, ColumnWeight, name_id
from losses.core.loss import Loss, TokenWeight
from losses.core.masks import data_mask, own_mask, target_mask, token_mask
from losses.core.of_means import OfMeans
from losses.core.of_rows import OfRows
from losses.core.outputs import (
    FullOutputs,
    IncompatibleLoss,
    NeedsFullLogits,
    Outputs,
    PerToken,
    RecordSpec,
    TeacherOutputs,
)
from losses.core.terms import Group, LossTerm
from losses.core.vocab_sums import TiledOutputs
from losses.cross_entropy import CrossEntropy, SmoothedCrossEntropy
from losses.cross_tokenizer.aligned_share import AlignedShare
from losses.cross_tokenizer.span_likelihood import SpanLikelihood
from losses.cross_tokenizer.uld import ULD, HybridULD
from losses.dice import Dice
from losses.distillation.adaptive_kl import AdaptiveKL, ToDi
from losses.distillation.agreement import Agreement
from losses.distillation.alignment import SparseMode
from losses.distillation.binary_kl import BinaryKL, BinaryKLNorm
from losses.distillation.correlation import InterClassCorrelation, IntraClassCorrelation
from losses.distillation.decoupled import DecoupledKD, NormalizedKD, Targeted
from losses.distillation.divergence import Divergence
from losses.distillation.flips import NegativeFlip, PositiveFlip
from losses.distillation.interpolated import TAID, Interpolated
from losses.distillation.kl import (
    ForwardKL,
    JensenShannon,
    ReverseKL,
    SkewForwardKL,
    SkewReverseKL,
    SymmetricKL,
)
from losses.distillation.logit_distance import LogitDistance
from losses.distillation.logit_graph import LogitGraph, SortedLogits
from losses.distillation.logit_mse import LogitMSE
from losses.distillation.own_head import OnSecondHead, OwnHead
from losses.distillation.plackett_luce import PlackettLuce
from losses.distillation.power_divergences import (
    AlphaBetaDivergence,
    AlphaDivergence,
    RenyiDivergence,
    TotalVariation,
)
from losses.distillation.sampled import MiniLLM, SampledReverseKL
from losses.distillation.standardized import Standardized
from losses.distillation.student_best import OverStudentBest
from losses.entropy import ConfidencePenalty, UniformKL
from losses.features.attention_maps import AttentionKL, AttentionMSE
from losses.features.cka import CKA
from losses.features.draft import Acceptance, AcceptedLength, Draft
from losses.features.hidden_states import FeatureCosine, FeatureMSE
from losses.features.layer_pairs import MeanOverLayers, OverLayers, uniform_map
from losses.features.norm_spread import NormSpread
from losses.features.projected import Projected
from losses.features.relations import Relations, TokenContext
from losses.moe.load_balance import LoadBalance, SequenceLoadBalance
from losses.moe.router_distillation import RouterDistillation
from losses.moe.router_z_loss import RouterZLoss
from losses.moe.routes import RouteConsistency, RouteDistance
from losses.of_teacher import OfTeacher
from losses.preference.bradley_terry import BradleyTerry
from losses.preference.candidates import OneCandidate
from losses.preference.dpo import DPO, IPO, HingeDPO
from losses.preference.kto import KTO
from losses.preference.pairs import PairLoss, ReferencePairLoss
from losses.preference.policy_gradient import PolicyGradient, SaysAnswer
from losses.preference.ranking import BPR, NDCGAt, RecallAt
from losses.preference.reference_free import OddsRatio, SimPO
from losses.preference.rewards import (
    CompletionLogProbability,
    PairAccuracy,
    RewardMargin,
)
from losses.preference.sequences import chosen_mask, pair_mask, sequence_mask
from losses.prior import WithPrior
from losses.scheduled import Scheduled
from losses.self_kd import USKD
from losses.sets.any_loss import AnyLoss
from losses.sets.bags import BagLoss
from losses.sets.captions import ImageTextContrast, ImageTextKL
from losses.sets.contrastive import InfoNCE
from losses.sets.groups import GroupDRO, OverGroups
from losses.sets.neighbors import NeighborAccuracy
from losses.sets.rows import (
    ProbabilisticTransfer,
    RelationalAngle,
    RelationalDistance,
    SimilarityPreserving,
)
from losses.sets.tokens import OfTokens, TokenContrast, TokenGraph
from losses.standard_score import StandardScore
from losses.views.alignment import StepContrast, ViewAlignment, ViewContrast
from losses.views.on_view import OnView, WorstView
from losses.views.prior_kl import PriorKL
from losses.views.shifts import FeatureShift, MarginShift
from losses.views.values import ValueDistance
from losses.views.view_kl import LogitPairing, ViewKL
from losses.weighting.balance import (
    MatchGradient,
    MatchValue,
    Reciprocal,
    Uncertainty,
    UnitGradient,
)
from losses.weighting.conflicts import Unopposed
from losses.weighting.resampled import Resampled
from losses.weighting.reweighting import (
    LearningProgress,
    RelativeLoss,
    RowTable,
    Span,
)
from losses.weighting.teacher_contrast import TeacherContrast
from losses.weighting.token_weights import (
    Position,
    TeacherConfidence,
    TeacherCorrect,
    TeacherEntropy,
    TeacherUnsure,
)
from losses.weighting.turns import Turn
from losses.z_loss import ZLoss
from losses.zero_one import ZeroOne

__all__ = [
    "BPR",
    "CKA",
    "DPO",
    "IPO",
    "KTO",
    "TAID",
    "ULD",
    "USKD",
    "Acceptance",
    "AcceptedLength",
    "AdaptiveKL",
    "Agreement",
    "AlignedShare",
    "AlphaBetaDivergence",
    "AlphaDivergence",
    "AnyLoss",
    "Aspects",
    "AttentionKL",
    "AttentionMSE",
    "BagLoss",
    "Balance",
    "BinaryKL",
    "BinaryKLNorm",
    "BradleyTerry",
    "ClassBias",
    "ColumnMask",
    "ColumnWeight",
    "CompSum",
    "CompletionLogProbability",
    "ConfidencePenalty",
    "CrossEntropy",
    "DecoupledKD",
    "Dice",
    "Divergence",
    "Draft",
    "FeatureCosine",
    "FeatureMSE",
    "FeatureShift",
    "ForwardKL",
    "FullOutputs",
    "Group",
    "GroupDRO",
    "HingeDPO",
    "HybridULD",
    "ImageTextContrast",
    "ImageTextKL",
    "IncompatibleLoss",
    "InfoNCE",
    "InterClassCorrelation",
    "Interpolated",
    "IntraClassCorrelation",
    "JensenShannon",
    "LearningProgress",
    "LoadBalance",
    "LogitDistance",
    "LogitGraph",
    "LogitMSE",
    "LogitPairing",
    "Loss",
    "LossTerm",
    "MarginShift",
    "MatchGradient",
    "MatchValue",
    "MeanOverLayers",
    "MiniLLM",
    "NDCGAt",
    "NeedsFullLogits",
    "NegativeFlip",
    "NeighborAccuracy",
    "NormSpread",
    "NormalizedKD",
    "OddsRatio",
    "OfMeans",
    "OfRows",
    "OfTeacher",
    "OfTokens",
    "OnSecondHead",
    "OnView",
    "OneCandidate",
    "Outputs",
    "OverGroups",
    "OverLayers",
    "OverStudentBest",
    "OwnHead",
    "PairAccuracy",
    "PairLoss",
    "PerToken",
    "PlackettLuce",
    "PolicyGradient",
    "Position",
    "PositiveFlip",
    "PriorKL",
    "ProbabilisticTransfer",
    "Projected",
    "RecallAt",
    "Reciprocal",
    "RecordSpec",
    "ReferencePairLoss",
    "RelationalAngle",
    "RelationalDistance",
    "Relations",
    "RelativeLoss",
    "RenyiDivergence",
    "Resampled",
    "ReverseKL",
    "RewardMargin",
    "Reweighting",
    "RouteConsistency",
    "RouteDistance",
    "RouterDistillation",
    "RouterZLoss",
    "RowTable",
    "SampledReverseKL",
    "SaysAnswer",
    "Scheduled",
    "SequenceLoadBalance",
    "SimPO",
    "SimilarityPreserving",
    "SkewForwardKL",
    "SkewReverseKL",
    "SmoothedCrossEntropy",
    "SortedLogits",
    "Span",
    "SpanLikelihood",
    "SparseMode",
    "StandardScore",
    "Standardized",
    "StepContrast",
    "SymmetricKL",
    "Targeted",
    "TeacherConfidence",
    "TeacherContrast",
    "TeacherCorrect",
    "TeacherEntropy",
    "TeacherOutputs",
    "TeacherUnsure",
    "TiledOutputs",
    "ToDi",
    "TokenContext",
    "TokenContrast",
    "TokenGraph",
    "TokenWeight",
    "TotalVariation",
    "Turn",
    "Uncertainty",
    "UniformKL",
    "UnitGradient",
    "Unopposed",
    "ValueDistance",
    "ViewAlignment",
    "ViewContrast",
    "ViewKL",
    "WithPrior",
    "WorstView",
    "ZLoss",
    "ZeroOne",
    "chosen_mask",
    "data_mask",
    "functional",
    "name_id",
    "own_mask",
    "pair_mask",
    "sequence_mask",
    "target_mask",
    "token_mask",
    "uniform_map",
]

renamed.add_to(globals())
