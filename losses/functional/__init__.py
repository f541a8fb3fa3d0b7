"""Losses as pure functions of arrays, one value per token, divided by nothing.

    losses.functional.forward_kl(student_logits, teacher_logits, temperature=2.0)

The loss classes call the same code. Arrays of fewer bits are read as float32, in which
values are computed and returned. Arguments are not checked, but for a `mask`, which is
one bool a token; and nothing is masked: select before the call, not after it, where
masked tokens may hold inf or NaN.

Losses over the tokens of a batch (`cka`, `intra_class_correlation`, `load_balance`,
`any_loss`, `over_groups`, `bag_loss`), and those between rows (`info_nce`, ...), take
the tokens or rows of their arrays, where the classes take the global batch. A loss
around
another one is that one's function of changed arrays: `Standardized` of `standardize`,
`OwnHead` of `own_head_logits`, `Projected` of `project`.
"""

from losses.functional.agreement import acceptance, accepted_length, agreement
from losses.functional.attention import (
    attention_kl,
    attention_mse,
    relations,
    token_context,
    token_contrast,
    token_graph,
)
from losses.functional.correlation import (
    inter_class_correlation,
    intra_class_correlation,
    standardize,
    with_prior,
)
from losses.functional.divergences import (
    adaptive_kl,
    alpha_beta_divergence,
    alpha_divergence,
    forward_kl,
    forward_kl_from_samples,
    jensen_shannon,
    over_student_best,
    renyi_divergence,
    reverse_kl,
    skew_forward_kl,
    skew_reverse_kl,
    symmetric_kl,
    todi,
    total_variation,
)
from losses.functional.features import (
    cka,
    feature_cosine,
    feature_mse,
    norm_spread,
    own_head_logits,
    project,
)
from losses.functional.in_batch import image_text_contrast, image_text_kl, info_nce
from losses.functional.logit_distances import (
    binary_kl,
    binary_kl_norm,
    logit_graph,
    logit_mse,
    sorted_logits,
)
from losses.functional.preference import (
    bpr,
    bradley_terry,
    dpo,
    hinge_dpo,
    ipo,
    kto,
    odds_ratio,
    one_candidate,
    pair_accuracy,
    rank,
    reward_margin,
    simpo,
)
from losses.functional.routers import (
    load_balance,
    route_consistency,
    route_distance,
    router_distillation,
    router_z_loss,
    sequence_load_balance,
)
from losses.functional.rows import (
    neighbor_accuracy,
    probabilistic_transfer,
    relational_angle,
    relational_distance,
    similarity_preserving,
)
from losses.functional.sampled import (
    clipped_policy_gradient,
    group_advantages,
    minillm,
    sampled_reverse_kl,
)
from losses.functional.scores import aspects, dice, standard_score
from losses.functional.sets import any_loss, bag_loss, over_groups
from losses.functional.spans import hybrid_uld, span_likelihood, uld
from losses.functional.targeted import (
    decoupled_kd,
    normalized_kd,
    plackett_luce,
    uskd,
)
from losses.functional.views import (
    feature_shift,
    margin_shift,
    prior_kl,
    step_contrast,
    value_distance,
    view_alignment,
)
from losses.functional.vocabulary import (
    comp_sum,
    confidence_penalty,
    cross_entropy,
    smoothed_cross_entropy,
    uniform_kl,
    z_loss,
    zero_one,
)

__all__ = [
    "acceptance",
    "accepted_length",
    "adaptive_kl",
    "agreement",
    "alpha_beta_divergence",
    "alpha_divergence",
    "any_loss",
    "aspects",
    "attention_kl",
    "attention_mse",
    "bag_loss",
    "binary_kl",
    "binary_kl_norm",
    "bpr",
    "bradley_terry",
    "cka",
    "clipped_policy_gradient",
    "comp_sum",
    "confidence_penalty",
    "cross_entropy",
    "decoupled_kd",
    "dice",
    "dpo",
    "feature_cosine",
    "feature_mse",
    "feature_shift",
    "forward_kl",
    "forward_kl_from_samples",
    "group_advantages",
    "hinge_dpo",
    "hybrid_uld",
    "image_text_contrast",
    "image_text_kl",
    "info_nce",
    "inter_class_correlation",
    "intra_class_correlation",
    "ipo",
    "jensen_shannon",
    "kto",
    "load_balance",
    "logit_graph",
    "logit_mse",
    "margin_shift",
    "minillm",
    "neighbor_accuracy",
    "norm_spread",
    "normalized_kd",
    "odds_ratio",
    "one_candidate",
    "over_groups",
    "over_student_best",
    "own_head_logits",
    "pair_accuracy",
    "plackett_luce",
    "prior_kl",
    "probabilistic_transfer",
    "project",
    "rank",
    "relational_angle",
    "relational_distance",
    "relations",
    "renyi_divergence",
    "reverse_kl",
    "reward_margin",
    "route_consistency",
    "route_distance",
    "router_distillation",
    "router_z_loss",
    "sampled_reverse_kl",
    "sequence_load_balance",
    "similarity_preserving",
    "simpo",
    "skew_forward_kl",
    "skew_reverse_kl",
    "smoothed_cross_entropy",
    "sorted_logits",
    "span_likelihood",
    "standard_score",
    "standardize",
    "step_contrast",
    "symmetric_kl",
    "todi",
    "token_context",
    "token_contrast",
    "token_graph",
    "total_variation",
    "uld",
    "uniform_kl",
    "uskd",
    "value_distance",
    "view_alignment",
    "with_prior",
    "z_loss",
    "zero_one",
]
