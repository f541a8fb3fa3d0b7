"""The table of losses, their inputs, and one compiled step of them all.

A new loss adds one row to `LOSSES`, and one to `FUNCTIONS` in `functional_test.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import losses
from losses.core import term_values
from losses.core.batch_weights import times

SHAPE = (3, 5)
VOCABULARY, WIDTH, LAYERS, EXPERTS, CHOSEN = 7, 5, 2, 4, 2
BEST, DRAWS, TEMPERATURES = 3, 6, (1.0, 2.0)
NUM_ROWS = 4  # one of them without a token that counts
BY_LAYER = {
    "hidden/0": (4,),
    "teacher/hidden/1": (4,),
    "attention/0": (2, 5),
    "teacher/attention/1": (2, 5),
    "queries/0": (2, 3),
    "teacher/queries/1": (3, 2),
    "teacher/spans/log_probability": (),
    "teacher/spans/log_probability_before": (),
    "teacher/spans/shared_logits": (VOCABULARY,),
    "teacher/spans/other_logits": (3,),
}
"""Intermediates of one layer each, or a span: what follows the token axes."""

BATCH = (
    "targets",
    "mask",
    "segment_ids",
    "tie",
    "desirable",
    "group",
    "bag",
    "aspects",
    "positions",
    "place",
    "teacher/spans",
    "teacher/known",
    "drawn",
    "values",
    "observed",
    "hidden",
)
"""Entries of the batch, of `arrays`."""

PAIRS = ((0, 1),)


def first_target(batch):
    """A reward, of rows."""
    return batch["targets"].reshape((len(batch["targets"]), -1))[:, 0]


class Row(NamedTuple):
    """A loss, and the form of its teacher's outputs."""

    loss: losses.Loss
    teacher: Literal["whole", "best", "draws"] = "whole"


LOSSES = {
    "cross_entropy": Row(losses.CrossEntropy()),
    "smoothed_cross_entropy": Row(losses.SmoothedCrossEntropy(epsilon=0.2)),
    "z_loss": Row(losses.ZLoss()),
    "comp_sum": Row(losses.CompSum()),
    "uniform_kl": Row(losses.UniformKL()),
    "standard_score": Row(losses.StandardScore(sharpness=2.0, location=0.5)),
    "dice": Row(losses.Dice(focus=0.5)),
    "any_loss": Row(losses.AnyLoss(metric="g_mean", positive=2, sharpness=9.0)),
    "over_groups": Row(
        losses.OverGroups(
            loss=losses.CrossEntropy(), column="group", num_groups=2, rule="worst"
        )
    ),
    "similarity_preserving": Row(losses.SimilarityPreserving(layers=PAIRS)),
    "relational_distance": Row(losses.RelationalDistance(layers=PAIRS)),
    "relational_angle": Row(losses.RelationalAngle(layers=PAIRS)),
    "probabilistic_transfer": Row(losses.ProbabilisticTransfer(layers=PAIRS)),
    "token_context": Row(losses.TokenContext(layers=PAIRS)),
    "token_graph": Row(losses.TokenGraph(layers=PAIRS, tokens=5, neighbors=3)),
    "token_contrast": Row(
        losses.TokenContrast(
            layers=PAIRS,
            student_dim=4,
            teacher_dim=4,
            tokens=5,
            temperature=optax.constant_schedule(0.5),
            rngs=nnx.Rngs(0),
        )
    ),
    "image_text_contrast": Row(
        losses.ImageTextContrast(view="a", image="trunk", text="trunk", temperature=2.0)
    ),
    "image_text_kl": Row(
        losses.ImageTextKL(
            view="a", image="trunk", beside="teacher/trunk", text="trunk"
        )
    ),
    "info_nce": Row(losses.InfoNCE(temperature=2.0)),
    "soft_info_nce": Row(losses.InfoNCE(temperature=2.0, alpha=0.5)),
    "bag_loss": Row(losses.BagLoss(column="bag", num_bags=4, distance="cross_entropy")),
    "bag_loss_of_squares": Row(
        losses.BagLoss(column="bag", num_bags=4, instance_weight=0.3)
    ),
    "class_bias": Row(losses.ClassBias(loss=losses.CrossEntropy(), first=3, last=6)),
    "router_z_loss": Row(losses.RouterZLoss()),
    "load_balance": Row(losses.LoadBalance()),
    "load_balance_pooled": Row(losses.LoadBalance(layers="pooled", scores="sigmoid")),
    "sequence_load_balance": Row(losses.SequenceLoadBalance(layers="sum")),
    "router_distillation": Row(losses.RouterDistillation(temperature=2.0)),
    "feature_mse": Row(losses.FeatureMSE(layers=PAIRS)),
    "feature_cosine": Row(losses.FeatureCosine(layers=PAIRS)),
    "projected": Row(
        losses.Projected(
            loss=losses.FeatureMSE(layers=PAIRS),
            student_dim=4,
            teacher_dim=4,
            rngs=nnx.Rngs(0),
        )
    ),
    "norm_spread": Row(losses.NormSpread(layer=0)),
    "cka": Row(losses.CKA(layers=PAIRS)),
    "attention_kl": Row(losses.AttentionKL(layers=PAIRS)),
    "attention_mse": Row(losses.AttentionMSE(layers=PAIRS)),
    "relations": Row(losses.Relations(layers=PAIRS, of="queries", heads=3)),
    "confidence_penalty": Row(losses.ConfidencePenalty()),
    "logit_mse": Row(losses.LogitMSE()),
    "forward_kl": Row(losses.ForwardKL(temperature=2.0)),
    "forward_kl_best": Row(losses.ForwardKL(temperature=2.0), "best"),
    "forward_kl_draws": Row(losses.ForwardKL(sparse="sampled"), "draws"),
    "reverse_kl": Row(losses.ReverseKL()),
    "reverse_kl_best": Row(losses.ReverseKL(sparse="truncate"), "best"),
    "symmetric_kl": Row(losses.SymmetricKL(reverse_weight=0.3)),
    "symmetric_kl_best": Row(losses.SymmetricKL(), "best"),
    "jensen_shannon": Row(losses.JensenShannon(beta=0.3)),
    "jensen_shannon_best": Row(
        losses.JensenShannon(sparse="renormalize_teacher"), "best"
    ),
    "skew_forward_kl": Row(losses.SkewForwardKL()),
    "skew_forward_kl_best": Row(losses.SkewForwardKL(sparse="truncate"), "best"),
    "skew_reverse_kl": Row(losses.SkewReverseKL()),
    "skew_reverse_kl_best": Row(losses.SkewReverseKL(), "best"),
    "total_variation": Row(losses.TotalVariation()),
    "total_variation_best": Row(
        losses.TotalVariation(sparse="residual_to_target"), "best"
    ),
    "alpha_divergence": Row(losses.AlphaDivergence(order=0.3)),
    "alpha_divergence_best": Row(losses.AlphaDivergence(), "best"),
    "alpha_divergence_of_two": Row(losses.AlphaDivergence(order=2.0)),
    "alpha_beta_divergence": Row(losses.AlphaBetaDivergence(alpha=0.9, beta=0.3)),
    "alpha_beta_divergence_best": Row(losses.AlphaBetaDivergence(), "best"),
    "renyi_divergence": Row(losses.RenyiDivergence(order=2.0)),
    "renyi_divergence_best": Row(
        losses.RenyiDivergence(sparse="renormalize_both"), "best"
    ),
    "decoupled_kd": Row(losses.DecoupledKD(non_target_weight=8.0)),
    "decoupled_kd_best": Row(losses.DecoupledKD(target="teacher"), "best"),
    "normalized_kd": Row(losses.NormalizedKD(temperature=2.0, non_target_weight=1.5)),
    "normalized_kd_best": Row(
        losses.NormalizedKD(temperature=2.0, target="teacher"), "best"
    ),
    "logit_graph": Row(losses.LogitGraph(best=3)),
    "sorted_logits": Row(losses.SortedLogits(best=2)),
    "of_teacher": Row(
        losses.OfTeacher(loss=losses.ForwardKL(), teacher="old", classes=5)
    ),
    "negative_flip": Row(losses.NegativeFlip()),
    "positive_flip": Row(losses.PositiveFlip()),
    "plackett_luce": Row(losses.PlackettLuce(temperature=2.0)),
    "plackett_luce_best": Row(losses.PlackettLuce(target="teacher"), "best"),
    "binary_kl": Row(losses.BinaryKL(temperature=2.0)),
    "binary_kl_norm": Row(losses.BinaryKLNorm(temperature=2.0)),
    "with_prior": Row(losses.WithPrior(loss=losses.CrossEntropy(), power=0.5)),
    "standardized": Row(losses.Standardized(loss=losses.ForwardKL(temperature=2.0))),
    "scheduled": Row(
        losses.Scheduled(
            loss=losses.ForwardKL(),
            field="temperature",
            schedule=optax.constant_schedule(2.0),
        )
    ),
    "interpolated": Row(losses.Interpolated(loss=losses.ForwardKL(), share=0.6)),
    "taid": Row(losses.TAID(loss=losses.ForwardKL(), end=0.6, num_steps=10)),
    "inter_class_correlation": Row(losses.InterClassCorrelation(temperature=2.0)),
    "intra_class_correlation": Row(losses.IntraClassCorrelation()),
    "minillm": Row(losses.MiniLLM(long_term=0.0)),
    "sampled_reverse_kl": Row(losses.SampledReverseKL(estimator="k3")),
    "policy_gradient": Row(
        losses.PolicyGradient(reward=first_target, group=2, drawn="drawn")
    ),
    "over_student_best": Row(losses.OverStudentBest(best=3)),
    "agreement": Row(losses.Agreement(measure="teacher_mass", best=3)),
    "own_head": Row(
        losses.OwnHead(
            loss=losses.ForwardKL(),
            dim=WIDTH,
            num_outputs=VOCABULARY,
            hidden_dim=6,
            rngs=nnx.Rngs(0),
        )
    ),
    "on_second_head": Row(losses.OnSecondHead(loss=losses.ForwardKL())),
    "draft": Row(losses.Draft(loss=losses.CrossEntropy())),
    "acceptance": Row(losses.Acceptance(against="teacher")),
    "accepted_length": Row(losses.AcceptedLength(steps=2, against="teacher")),
    "dpo": Row(losses.DPO(beta=0.3, label_smoothing=0.1)),
    "dpo_of_means": Row(losses.DPO(beta=5.0, over="mean")),
    "ipo": Row(losses.IPO(beta=0.5, over="mean")),
    "hinge_dpo": Row(losses.HingeDPO()),
    "bradley_terry": Row(losses.BradleyTerry(margin=1.0, tie="tie")),
    "simpo": Row(losses.SimPO()),
    "odds_ratio": Row(losses.OddsRatio()),
    "pair_accuracy": Row(losses.PairAccuracy(reference="none")),
    "reward_margin": Row(losses.RewardMargin(over="mean")),
    "kto": Row(losses.KTO(undesirable_weight=1.5)),
    "adaptive_kl": Row(losses.AdaptiveKL()),
    "adaptive_kl_best": Row(losses.AdaptiveKL(temperature=2.0), "best"),
    "todi": Row(losses.ToDi()),
    "span_likelihood": Row(losses.SpanLikelihood(temperature=2.0)),
    "uld": Row(losses.ULD()),
    "hybrid_uld": Row(losses.HybridULD(beta=0.3)),
    "aligned_share": Row(losses.AlignedShare()),
    "todi_best": Row(losses.ToDi(), "best"),
    "zero_one": Row(losses.ZeroOne()),
    "bpr": Row(losses.BPR(negative="bag")),
    "one_candidate": Row(losses.OneCandidate(loss=losses.CrossEntropy())),
    "recall_at": Row(losses.RecallAt(best=2)),
    "ndcg_at": Row(losses.NDCGAt(best=3)),
    "neighbor_accuracy": Row(
        losses.NeighborAccuracy(of="hidden/0", neighbors=1, label="group")
    ),
    "route_consistency": Row(losses.RouteConsistency()),
    "route_distance": Row(losses.RouteDistance(mass=0.6)),
    "completion_log_probability": Row(losses.CompletionLogProbability(of="rejected")),
    "aspects": Row(losses.Aspects(column="aspects")),
    "uskd": Row(
        losses.USKD(
            of="trunk",
            dim=WIDTH,
            num_outputs=VOCABULARY,
            weak_weight=0.1,
            rngs=nnx.Rngs(0),
        )
    ),
    "logit_graph_raw": Row(losses.LogitGraph(best=3, scores="logits")),
    "on_view": Row(losses.OnView(loss=losses.CrossEntropy(), view="a")),
    "worst_view": Row(losses.WorstView(loss=losses.CrossEntropy(), views=("a", ""))),
    "view_kl": Row(losses.ViewKL(second="a")),
    "logit_pairing": Row(losses.LogitPairing(first="", second="a")),
    "margin_shift": Row(losses.MarginShift(view="a")),
    "feature_shift": Row(losses.FeatureShift(view="a")),
    "view_alignment": Row(losses.ViewAlignment(view="a", dim=WIDTH, rngs=nnx.Rngs(0))),
    "view_contrast": Row(losses.ViewContrast(view="a", dim=WIDTH, rngs=nnx.Rngs(0))),
    "step_contrast": Row(losses.StepContrast(view="a", dim=WIDTH, rngs=nnx.Rngs(0))),
    "value_distance": Row(losses.ValueDistance(view="a", power=2)),
    "prior_kl": Row(losses.PriorKL(view="a")),
}


def arrays(shape=SHAPE, *, seed=0, scale=1.0):
    """Inputs by the names in `needs`, and those that are not differentiated."""
    rng = np.random.default_rng(seed)

    def draw(*features):
        return rng.normal(size=(*shape, *features), scale=scale).astype(np.float32)

    def ids(below, *of_each):
        return rng.integers(0, below, (*shape, *of_each)).astype(np.int32)

    floats = {
        "logits": draw(VOCABULARY),
        "trunk": draw(WIDTH),
        "router_logits": draw(LAYERS, EXPERTS),
    }
    fixed = {
        "targets": ids(VOCABULARY),
        "mask": rng.random(shape) < 0.6,
        "router_assignments": np.argsort(rng.random((*shape, LAYERS, EXPERTS)))[
            ..., :CHOSEN
        ].astype(np.int32),
        "draws": ids(VOCABULARY, DRAWS),
    }
    place = np.broadcast_to(np.arange(shape[-1]), shape)
    fixed |= {
        "segment_ids": (1 + (place >= shape[-1] // 2)).astype(np.int32),
        "positions": (place % max(shape[-1] // 2, 1)).astype(np.int32),
        "tie": np.arange(shape[0]) % 3 == 1,
        "desirable": np.arange(shape[0]) % 2 == 0,
        "group": np.arange(shape[0], dtype=np.int32) % 2,
        "place": np.broadcast_to(
            np.arange(shape[0], dtype=np.int32).reshape(-1, *[1] * (len(shape) - 1)),
            shape,
        ),
        "teacher/spans": (1 + place // 2).astype(np.int32),
        "teacher/known": place % 2 == 0,
        "bag": np.arange(np.prod(shape), dtype=np.int32).reshape(shape) % 4,
    }
    teacher = draw(VOCABULARY)
    routed = draw(LAYERS, EXPERTS)
    floats |= {"teacher/logits": teacher, "teacher/router_logits": routed}
    floats["free"] = draw()
    for path, features in BY_LAYER.items():
        floats[path] = draw(*features)
    floats["teacher/trunk"] = draw(WIDTH)
    fixed["aspects"] = rng.random((*shape, VOCABULARY)).astype(np.float32)
    floats |= {"view/a/logits": draw(VOCABULARY), "view/a/trunk": draw(WIDTH)}
    floats |= {"second/logits": draw(VOCABULARY)}
    floats["teacher/old/logits"] = draw(VOCABULARY)
    fixed["drawn"] = -2.0 + draw()
    for path in ("mean", "log_variance"):
        floats[f"view/a/latent/{path}"] = draw(WIDTH)
    fixed["values"] = draw(VOCABULARY)
    for path, share in (("observed", 0.8), ("hidden", 0.2), ("view/a/observed", 0.5)):
        fixed[path] = rng.random((*shape, VOCABULARY)) < share
    fixed["view/a/observed"] &= fixed["observed"]
    floats["router_embedding"] = draw(LAYERS, WIDTH)
    floats |= {f"head/draft/{j}": draw(VOCABULARY) for j in (1, 2)}
    return floats, fixed


def teacher_outputs(form, logits, draws):
    """The teacher's whole logits, its best entries, or draws from it."""
    logits = jax.lax.stop_gradient(logits)
    if form == "whole":
        return losses.TeacherOutputs(logits=logits)
    log_p = {T: jax.nn.log_softmax(logits / T) for T in TEMPERATURES}
    if form == "draws":
        return losses.TeacherOutputs(
            indices=draws,
            entropies={T: -jnp.sum(jnp.exp(x) * x, -1) for T, x in log_p.items()},
        )
    best, indices = jax.lax.top_k(logits, BEST)
    return losses.TeacherOutputs(
        indices=indices,
        logits=best,
        log_normalizers={
            T: jax.nn.logsumexp(logits / T, axis=-1) for T in TEMPERATURES
        },
    )


def outputs(form, floats, fixed):
    """Loss inputs of these arrays, the teacher's in one form."""
    ours, theirs = ({}, {})
    for path, x in floats.items():
        if path.startswith("teacher/"):
            theirs[path.removeprefix("teacher/")] = jax.lax.stop_gradient(x)
        else:
            ours[path] = x
    logits, teacher_logits = ours.pop("logits"), theirs.pop("logits")
    teacher = teacher_outputs(form, teacher_logits, fixed["draws"])
    return losses.FullOutputs(
        batch={name: fixed[name] for name in BATCH},
        logits=logits,
        intermediates=ours
        | {path: fixed[path] for path in ("router_assignments", "view/a/observed")},
        teacher=dataclasses.replace(teacher, intermediates=theirs),
        num_rows=NUM_ROWS,
    )


ALIKE = tuple(
    name
    for name, row in LOSSES.items()
    if row.teacher == "best"
    and not isinstance(row.loss, losses.ForwardKL | losses.ReverseKL)
)
"""Divergences over stored entries, which all come to them by one way."""

GROUPS = (tuple(name for name in LOSSES if name not in ALIKE), ALIKE)
"""Names of rows that share a program."""


def group(name):
    """The names that share a program with this one."""
    return next(names for names in GROUPS if name in names)


class Result(NamedTuple):
    """The weighted sum of a term and those beside it, its values `[*b]`, gradients."""

    total: np.ndarray
    values: np.ndarray
    grads: dict[str, np.ndarray]


class Free(losses.Loss):
    """A loss that reads what no other does."""

    needs = frozenset({"free"})

    def __call__(self, outputs):
        return jnp.square(outputs.intermediates["free"])


def everywhere(batch):
    """Counts all tokens."""
    return jnp.ones_like(batch["mask"])


BESIDE = (
    losses.LossTerm(name="labels", loss=losses.CrossEntropy(), mask=everywhere),
    losses.LossTerm(name="free", loss=Free(), mask=everywhere),
)
"""Terms beside each loss. They count all tokens."""

ALONE = np.array([1.0, 0.0, 0.0], np.float32)
"""Weights: of a loss alone, or of one of `BESIDE` too."""

BESIDE_LABELS = np.array([1.0, 1.0, 0.0], np.float32)
BESIDE_FREE = np.array([1.0, 0.0, 1.0], np.float32)


def terms(rows):
    """A term a row."""
    return [losses.LossTerm(name=name, loss=row.loss) for name, row in rows.items()]


def by_form(rows):
    """Rows by the form of their teacher's outputs, which those of one form share."""
    forms = dict.fromkeys(row.teacher for row in rows.values())
    return {
        form: {name: row for name, row in rows.items() if row.teacher == form}
        for form in forms
    }


def weighted(
    rows: Mapping[str, Row],
    outputs_of: Callable[[str], losses.Outputs],
    fixed,
    means,
    scales,
):
    """By row, its total with the terms beside it, as a step weighs them, and values."""
    every = jnp.ones_like(fixed["mask"])
    beside = [term.name for term in BESIDE]
    sums = {}
    for form, of_form in by_form(rows).items():
        results = term_values.per_token(
            [*terms(of_form), *BESIDE],
            outputs_of(form),
            masks=dict.fromkeys(of_form, fixed["mask"]) | dict.fromkeys(beside, every),
            statistics=means,
            active=dict.fromkeys(of_form, scales[0] != 0.0)
            | {name: scales[i] != 0.0 for i, name in enumerate(beside, start=1)},
        )
        for name in of_form:
            parts = [jnp.sum(results[x].values) for x in (name, *beside)]
            total = sum(times(s, x) for s, x in zip(scales, parts, strict=True))
            sums[name] = total, results[name].values
    return sums


def values(rows: Mapping[str, Row], floats, fixed, means):
    """By row, its values `[*b]`, zero where masked; `means` are its statistics."""
    results = {}
    for form, of_form in by_form(rows).items():
        results |= term_values.per_token(
            terms(of_form),
            outputs(form, floats, fixed),
            masks=dict.fromkeys(of_form, fixed["mask"]),
            statistics=means,
        )
    return {name: results[name].values for name in rows}


def steps(floats, fixed, means=None, scales=ALONE, *, names=GROUPS[0]):
    """`Result` of each row, by name, statistics over these tokens unless given."""
    if means is None:
        means = batch_means(floats, fixed, names)
    totals, per_token, grads = jax.device_get(
        compiled_steps(names)(floats, fixed, means, scales)
    )
    results = {
        name: Result(
            totals[i], per_token[name], {path: grad[i] for path, grad in grads.items()}
        )
        for i, name in enumerate(names)
    }
    finite = all(np.all(np.isfinite(x)) for x in jax.tree.leaves((totals, grads)))
    if finite or len(names) == 1:
        return results
    # One infinite gradient makes all others NaN, by 0 · inf: ask for each alone.
    return {
        name: steps(floats, fixed, means, scales, names=(name,))[name] for name in names
    }


@functools.cache
def compiled_steps(names: tuple[str, ...]):
    """Jitted `(floats, fixed, means, scales) -> (totals, values by row, gradients)`.

    One program of many rows takes a third less time to compile than one of each.
    Totals are `[row]`, gradients `[row, *shape]`.
    """
    rows = {name: LOSSES[name] for name in names}

    def run(floats, fixed, means, scales):
        def totals(floats):
            outputs_of = functools.partial(outputs, floats=floats, fixed=fixed)
            sums = weighted(rows, outputs_of, fixed, means, scales)
            values = {name: values for name, (_, values) in sums.items()}
            return jnp.stack([sums[name][0] for name in names]), values

        of_rows, pullback, values = jax.vjp(totals, floats, has_aux=True)
        (grads,) = jax.vmap(pullback)(jnp.eye(len(names)))
        return of_rows, values, grads

    return jax.jit(run)


@functools.cache
def compiled_values(names: tuple[str, ...]):
    """Jitted `(floats, fixed, means) -> values` by row."""
    rows = {name: LOSSES[name] for name in names}
    return jax.jit(functools.partial(values, rows))


def statistic_sums(rows: Mapping[str, Row], floats, fixed):
    """By row that asks for means over the batch, the sums of its statistics."""
    wanting = {
        name: row for name, row in rows.items() if term_values.wants_means(row.loss)
    }
    sums = {}
    for form, of_form in by_form(wanting).items():
        masks = dict.fromkeys(of_form, fixed["mask"])
        inputs = outputs(form, floats, fixed)
        sums |= term_values.statistic_sums(terms(of_form), inputs, masks=masks)
    return sums


@functools.cache
def compiled_sums(names: tuple[str, ...]):
    """Jitted `(floats, fixed) -> sums` of `statistic_sums`."""
    rows = {name: LOSSES[name] for name in names}
    return jax.jit(functools.partial(statistic_sums, rows))


def batch_means(floats, fixed, names) -> dict[str, dict[str, Any]]:
    """Masked means of the statistics, by row."""
    count = max(float(np.sum(fixed["mask"])), 1.0)
    sums = compiled_sums(names)(floats, fixed)
    return jax.tree.map(lambda value: value / count, sums)
