"""What holds for every loss; a new loss adds one row to `LOSSES`."""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import losses

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
    """A loss, and what the teacher that it is shown gives."""

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
    "reverse_kl_best": Row(losses.ReverseKL(sparse="residual_to_target"), "best"),
    "symmetric_kl": Row(losses.SymmetricKL(reverse_weight=0.3)),
    "symmetric_kl_best": Row(losses.SymmetricKL(sparse="renormalize_teacher"), "best"),
    "jensen_shannon": Row(losses.JensenShannon(beta=0.3)),
    "jensen_shannon_best": Row(losses.JensenShannon(), "best"),
    "skew_forward_kl": Row(losses.SkewForwardKL()),
    "skew_forward_kl_best": Row(losses.SkewForwardKL(sparse="truncate"), "best"),
    "skew_reverse_kl": Row(losses.SkewReverseKL()),
    "skew_reverse_kl_best": Row(losses.SkewReverseKL(), "best"),
    "total_variation": Row(losses.TotalVariation()),
    "total_variation_best": Row(losses.TotalVariation(), "best"),
    "alpha_divergence": Row(losses.AlphaDivergence(order=0.3)),
    "alpha_divergence_best": Row(losses.AlphaDivergence(), "best"),
    "renyi_divergence": Row(losses.RenyiDivergence(order=2.0)),
    "renyi_divergence_best": Row(
        losses.RenyiDivergence(sparse="renormalize_both"), "best"
    ),
    "decoupled_kd": Row(losses.DecoupledKD(non_target_weight=8.0)),
    "decoupled_kd_best": Row(losses.DecoupledKD(target="teacher"), "best"),
    "normalised_kd": Row(losses.NormalizedKD(temperature=2.0, non_target_weight=1.5)),
    "normalised_kd_best": Row(
        losses.NormalizedKD(temperature=2.0, target="teacher"), "best"
    ),
    "plackett_luce": Row(losses.PlackettLuce(temperature=2.0)),
    "plackett_luce_best": Row(losses.PlackettLuce(target="teacher"), "best"),
    "binary_kl": Row(losses.BinaryKL(temperature=2.0)),
    "binary_kl_norm": Row(losses.BinaryKLNorm(temperature=2.0)),
    "standardised": Row(losses.Standardized(loss=losses.ForwardKL(temperature=2.0))),
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
# What treats a part of its value as constant has not the gradient of its value.
DIFFERENTIABLE = {
    name: row
    for name, row in LOSSES.items()
    if not isinstance(row.loss, losses.AdaptiveKL)
}

every_loss = pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES)


def test_every_loss_has_its_row():
    public = {getattr(losses, name) for name in losses.__all__}
    concrete = {
        x
        for x in public - {losses.Loss, losses.Divergence, losses.OfMeans}
        if isinstance(x, type) and issubclass(x, losses.Loss)
    }
    assert concrete == {type(row.loss) for row in LOSSES.values()}


def test_every_divergence_has_a_row_over_records():
    whole, stored = (
        {type(row.loss) for row in LOSSES.values() if (row.teacher == "whole") is given}
        for given in (True, False)
    )
    assert {x for x in whole if issubclass(x, losses.Divergence)} == stored


def arrays(shape=(3, 5), *, seed=0, scale=1.0):
    """Inputs by the names that losses need, and what is not differentiated."""
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
    for path, features in BY_LAYER.items():
        floats[path] = jnp.asarray(draw(size=(*shape, *features)), jnp.float32)
    return floats, fixed


def teacher(gives, logits, draws):
    logits = jax.lax.stop_gradient(logits)
    if gives == "whole":
        return losses.TeacherOutputs(logits=logits)
    log_p = {T: jax.nn.log_softmax(logits / T) for T in TEMPERATURES}
    if gives == "draws":
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
    ours, theirs = ({}, {})
    for path, x in floats.items():
        if path.startswith("teacher/"):
            theirs[path.removeprefix("teacher/")] = jax.lax.stop_gradient(x)
        else:
            ours[path] = x
    logits, teacher_logits = ours.pop("logits"), theirs.pop("logits")
    return losses.FullOutputs(
        batch={
            "targets": fixed["targets"],
            "mask": fixed["mask"],
            "segment_ids": jnp.ones_like(fixed["targets"]),
        },
        logits=logits,
        intermediates=ours | {"router_assignments": fixed["router_assignments"]},
        teacher=dataclasses.replace(
            teacher(row.teacher, teacher_logits, fixed["draws"]), intermediates=theirs
        ),
    )


def total(row, floats, fixed):
    """The masked sum of one term, statistics over these tokens."""
    term = losses.LossTerm(name="term", loss=row.loss)
    return losses.evaluate([term], outputs(row, floats, fixed))["term"].total


def per_token(row, floats, fixed):
    term = losses.LossTerm(name="term", loss=row.loss)
    seen = outputs(row, floats, fixed)
    masks = {"term": fixed["mask"]}
    sums = losses.statistic_sums([term], seen, masks=masks)["term"]
    count = jnp.sum(fixed["mask"], dtype=jnp.float32)
    means = {"term": {name: value / count for name, value in sums.items()}}
    found = losses.per_token([term], seen, masks=masks, statistics=means)
    return found["term"].values


@every_loss
@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 2)])
def test_one_float32_value_per_token(row, shape):
    values = jax.eval_shape(functools.partial(per_token, row), *arrays(shape))
    assert values.shape == shape
    assert values.dtype == jnp.float32


@every_loss
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_masked_tokens_count_nothing_and_get_exactly_zero_gradient(row, poison):
    floats, fixed = arrays()
    masked = ~fixed["mask"]

    def poisoned(x):
        wide = masked.reshape(masked.shape + (1,) * (x.ndim - masked.ndim))
        return jnp.where(wide, poison, x)

    value, gradient = jax.value_and_grad(functools.partial(total, row))(
        jax.tree.map(poisoned, floats), fixed
    )
    clean_value, clean_gradient = jax.value_and_grad(functools.partial(total, row))(
        floats, fixed
    )
    np.testing.assert_array_equal(value, clean_value)
    for name, found in gradient.items():
        assert not np.any(found[masked]), name
        np.testing.assert_array_equal(found, clean_gradient[name])


@every_loss
def test_blocks_of_tokens_sum_to_the_whole(row):
    floats, fixed = arrays((12,) if row.loss.scope == "token" else (12, 3))
    term = losses.LossTerm(name="term", loss=row.loss)
    whole = outputs(row, floats, fixed)
    masks = {"term": fixed["mask"]}
    sums = losses.statistic_sums([term], whole, masks=masks)["term"]
    count = jnp.sum(fixed["mask"], dtype=jnp.float32)
    means = {"term": {name: value / count for name, value in sums.items()}}

    def block(start, stop):
        cut = jax.tree.map(lambda x: x[start:stop], (floats, fixed))
        found = losses.per_token(
            [term],
            outputs(row, *cut),
            masks={"term": cut[1]["mask"]},
            statistics=means,
        )
        return jnp.sum(found["term"].values)

    parts = block(0, 4) + block(4, 8) + block(8, 12)
    np.testing.assert_allclose(parts, total(row, floats, fixed), rtol=1e-6)


@every_loss
def test_finite_at_extreme_logits(row):
    floats, fixed = arrays()
    extreme = jax.tree.map(lambda x: jnp.sign(x) * 1e4, floats)
    value, gradient = jax.value_and_grad(functools.partial(total, row))(extreme, fixed)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("row", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)
def test_gradient_agrees_with_finite_differences(row):
    floats, fixed = arrays((2, 3))
    given = {name: floats.pop(name) for name in list(floats) if "teacher/" in name}
    count = max(float(np.sum(fixed["mask"])), 1.0)
    seen = outputs(row, floats | given, fixed)
    masks = {"term": fixed["mask"]}
    term = losses.LossTerm(name="term", loss=row.loss)
    sums = losses.statistic_sums([term], seen, masks=masks)["term"]
    means = {"term": {name: value / count for name, value in sums.items()}}

    def mean(floats):
        found = losses.per_token(
            [term], outputs(row, floats | given, fixed), masks=masks, statistics=means
        )
        return jnp.sum(found["term"].values) / count

    check_grads(mean, (floats,), order=1, modes=["rev"], eps=1e-2, atol=5e-3, rtol=5e-3)


@every_loss
def test_reads_only_what_it_needs(row):
    floats, fixed = arrays()
    for name in floats:
        changed = floats | {name: jnp.sin(2.0 * floats[name] + 1.0)}
        difference = float(total(row, changed, fixed) - total(row, floats, fixed))
        assert (difference != 0.0) == (name in row.loss.needs), name
