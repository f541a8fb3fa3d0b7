"""The table of losses, their inputs, and one compiled step a loss.

A new loss adds one row to `LOSSES`, and one to `FUNCTIONS` in `functional_test.py`.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import losses
from losses.core import term_values
from losses.core.batch_weights import times

SHAPE = (3, 5)
VOCABULARY, WIDTH, LAYERS, EXPERTS, CHOSEN = 7, 5, 2, 4, 2
BEST, DRAWS, TEMPERATURES = 3, 6, (1.0, 2.0)
BY_LAYER = {
    "hidden/0": (4,),
    "teacher/hidden/1": (4,),
    "attention/0": (2, 5),
    "teacher/attention/1": (2, 5),
    "queries/0": (2, 3),
    "teacher/queries/1": (3, 2),
}
"""Intermediates of one layer each: what follows the token axes."""

PAIRS = ((0, 1),)


class Row(NamedTuple):
    """A loss, and the form of its teacher's outputs."""

    loss: losses.Loss
    teacher: Literal["whole", "best", "draws"] = "whole"


LOSSES = {
    "cross_entropy": Row(losses.CrossEntropy()),
    "smoothed_cross_entropy": Row(losses.SmoothedCrossEntropy(epsilon=0.2)),
    "z_loss": Row(losses.ZLoss()),
    "router_z_loss": Row(losses.RouterZLoss()),
    "load_balance": Row(losses.LoadBalance()),
    "load_balance_pooled": Row(losses.LoadBalance(layers="pooled")),
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
    "plackett_luce": Row(losses.PlackettLuce(temperature=2.0)),
    "plackett_luce_best": Row(losses.PlackettLuce(target="teacher"), "best"),
    "binary_kl": Row(losses.BinaryKL(temperature=2.0)),
    "binary_kl_norm": Row(losses.BinaryKLNorm(temperature=2.0)),
    "standardized": Row(losses.Standardized(loss=losses.ForwardKL(temperature=2.0))),
    "inter_class_correlation": Row(losses.InterClassCorrelation(temperature=2.0)),
    "intra_class_correlation": Row(losses.IntraClassCorrelation()),
    "own_head": Row(
        losses.OwnHead(
            loss=losses.ForwardKL(),
            dim=WIDTH,
            num_outputs=VOCABULARY,
            hidden_dim=6,
            rngs=nnx.Rngs(0),
        )
    ),
    "adaptive_kl": Row(losses.AdaptiveKL()),
    "adaptive_kl_best": Row(losses.AdaptiveKL(temperature=2.0), "best"),
}


def arrays(shape=SHAPE, *, seed=0, scale=1.0):
    """Inputs by the names in `needs`, and those that are not differentiated."""
    rng = np.random.default_rng(seed)
    draw = functools.partial(rng.normal, scale=scale)
    floats = {
        "logits": jnp.asarray(draw(size=(*shape, VOCABULARY)), jnp.float32),
        "trunk": jnp.asarray(draw(size=(*shape, WIDTH)), jnp.float32),
        "router_logits": jnp.asarray(draw(size=(*shape, LAYERS, EXPERTS)), jnp.float32),
    }
    fixed = {
        "targets": jnp.asarray(rng.integers(0, VOCABULARY, shape), jnp.int32),
        "mask": jnp.asarray(rng.random(shape) < 0.6),
        "router_assignments": jnp.asarray(
            np.argsort(rng.random((*shape, LAYERS, EXPERTS)))[..., :CHOSEN], jnp.int32
        ),
        "draws": jnp.asarray(rng.integers(0, VOCABULARY, (*shape, DRAWS)), jnp.int32),
    }
    teacher = jnp.asarray(draw(size=(*shape, VOCABULARY)), jnp.float32)
    routed = jnp.asarray(draw(size=(*shape, LAYERS, EXPERTS)), jnp.float32)
    floats |= {"teacher/logits": teacher, "teacher/router_logits": routed}
    floats["free"] = jnp.asarray(draw(size=shape), jnp.float32)
    for path, features in BY_LAYER.items():
        floats[path] = jnp.asarray(draw(size=(*shape, *features)), jnp.float32)
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


def outputs(row, floats, fixed):
    """Loss inputs of these arrays."""
    ours, theirs = ({}, {})
    for path, x in floats.items():
        if path.startswith("teacher/"):
            theirs[path.removeprefix("teacher/")] = jax.lax.stop_gradient(x)
        else:
            ours[path] = x
    logits, teacher_logits = ours.pop("logits"), theirs.pop("logits")
    teacher = teacher_outputs(row.teacher, teacher_logits, fixed["draws"])
    return losses.FullOutputs(
        batch={
            "targets": fixed["targets"],
            "mask": fixed["mask"],
            "segment_ids": jnp.ones_like(fixed["targets"]),
        },
        logits=logits,
        intermediates=ours | {"router_assignments": fixed["router_assignments"]},
        teacher=dataclasses.replace(teacher, intermediates=theirs),
    )


class Result(NamedTuple):
    """The masked sum of a term, its values `[*b]`, and the gradients of the sum."""

    total: jax.Array
    values: jax.Array
    grads: dict[str, jax.Array]


class Free(losses.Loss):
    """A loss that reads what no other does."""

    needs = frozenset({"free"})

    def __call__(self, outputs):
        return jnp.square(outputs.intermediates["free"])


ALONE = np.array([1.0, 0.0, 0.0], np.float32)
"""Weights of `terms`: of the loss alone. The others count all tokens."""

BESIDE_LABELS = np.array([1.0, 1.0, 0.0], np.float32)
BESIDE_FREE = np.array([1.0, 0.0, 1.0], np.float32)


def terms(row):
    """A loss, cross-entropy and `Free`."""
    return [
        losses.LossTerm(name="term", loss=row.loss),
        losses.LossTerm(name="labels", loss=losses.CrossEntropy(), mask=everywhere),
        losses.LossTerm(name="free", loss=Free(), mask=everywhere),
    ]


def everywhere(batch):
    """Counts all tokens."""
    return jnp.ones_like(batch["mask"])


def masks(fixed):
    """By term, the tokens it counts."""
    every = jnp.ones_like(fixed["mask"])
    return {"term": fixed["mask"], "labels": every, "free": every}


def active(scales):
    """By term, whether its weight is not 0."""
    return {name: scales[i] != 0.0 for i, name in enumerate(("term", "labels", "free"))}


def weighted_total(results, scales):
    """The sum of all terms, weighted as a step does it."""
    sums = [jnp.sum(results[name].values) for name in ("term", "labels", "free")]
    return sum(times(scale, x) for scale, x in zip(scales, sums, strict=True))


def values(row, floats, fixed, means):
    """Values of one term, `[*b]`, zero where masked; `means` are its statistics."""
    results = term_values.per_token(
        terms(row)[:1],
        outputs(row, floats, fixed),
        masks={"term": fixed["mask"]},
        statistics={"term": means},
    )
    return results["term"].values


def step(name: str, floats, fixed, means=None, scales=ALONE) -> Result:
    """Value and gradient of one row, statistics over these tokens unless given."""
    if means is None:
        means = batch_means(name, floats, fixed)
    (total, per_token), grads = compiled_step(name)(floats, fixed, means, scales)
    return Result(total, per_token, grads)


@functools.cache
def compiled_step(name: str):
    """Jitted `(floats, fixed, means, scales) -> ((sum, values), grads)`."""
    row = LOSSES[name]

    def total(floats, fixed, means, scales):
        results = term_values.per_token(
            terms(row),
            outputs(row, floats, fixed),
            masks=masks(fixed),
            statistics={"term": means},
            active=active(scales),
        )
        return weighted_total(results, scales), results["term"].values

    return jax.jit(jax.value_and_grad(total, has_aux=True))


@functools.cache
def compiled_values(name: str):
    """Jitted `(floats, fixed, means) -> values`, for arrays of other shapes."""
    return jax.jit(functools.partial(values, LOSSES[name]))


@functools.cache
def compiled_sums(name: str):
    """Jitted `(floats, fixed) -> sums` of the statistics of one row."""
    row = LOSSES[name]

    def sums(floats, fixed):
        term = losses.LossTerm(name="term", loss=row.loss)
        masks = {"term": fixed["mask"]}
        return term_values.statistic_sums(
            [term], outputs(row, floats, fixed), masks=masks
        )

    return jax.jit(sums)


def batch_means(name: str, floats, fixed) -> dict[str, Any]:
    """Masked means of the statistics of one row."""
    if not term_values.wants_means(LOSSES[name].loss):
        return {}
    count = max(float(np.sum(fixed["mask"])), 1.0)
    sums = compiled_sums(name)(floats, fixed)["term"]
    return {key: value / count for key, value in sums.items()}
