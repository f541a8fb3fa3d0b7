"""Values that a reader checks by hand, or that optax gives."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses.core.masks import token_masks
from losses.core.term_values import evaluate, per_token
from losses.features.draft import DraftedMask
from losses.weighting.weights import weight_at_step
from tests.losses.jitted import mean, values
from tests.losses.table import LOSSES


def outputs(logits, targets=None, **intermediates):
    logits = np.asarray(logits, np.float32)
    if targets is None:
        targets = np.zeros(logits.shape[:-1], np.int32)
    batch = {"targets": targets, "mask": np.ones(logits.shape[:-1], bool)}
    return losses.FullOutputs(batch=batch, logits=logits, intermediates=intermediates)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(2, 3, 11), scale=4.0)


@pytest.fixture
def targets():
    return np.int32(np.random.default_rng(1).integers(0, 11, (2, 3)))


def test_cross_entropy_is_that_of_optax(logits, targets):
    expected = jax.jit(optax.softmax_cross_entropy_with_integer_labels)(
        np.float32(logits), targets
    )
    found = values(losses.CrossEntropy(), outputs(logits, targets))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cross_entropy_in_float64(logits, targets):
    shifted = logits - logits.max(-1, keepdims=True)
    log_z = np.log(np.exp(shifted).sum(-1))
    expected = (
        log_z - np.take_along_axis(shifted, np.asarray(targets)[..., None], -1)[..., 0]
    )
    found = values(losses.CrossEntropy(), outputs(logits, targets))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_smoothed_cross_entropy_is_that_of_optax(logits, targets):
    smooth = optax.smooth_labels(np.eye(11, dtype=np.float32)[targets], 0.2)
    expected = jax.jit(optax.softmax_cross_entropy)(np.float32(logits), smooth)
    found = values(losses.SmoothedCrossEntropy(epsilon=0.2), outputs(logits, targets))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_no_smoothing_is_cross_entropy(logits, targets):
    seen = outputs(logits, targets)
    np.testing.assert_array_equal(
        values(losses.SmoothedCrossEntropy(epsilon=0.0), seen),
        values(losses.CrossEntropy(), seen),
    )


def test_z_loss_of_uniform_logits():
    found = values(losses.ZLoss(), outputs(np.zeros((2, 4))))
    np.testing.assert_allclose(found, math.log(4) ** 2)


def test_router_z_loss_is_the_mean_over_layers():
    router = np.stack([np.zeros((3, 4)), np.ones((3, 4))], axis=1).astype(np.float32)
    inputs = outputs(np.zeros((3, 2)), router_logits=router)
    found = values(losses.RouterZLoss(), inputs)
    expected = (math.log(4) ** 2 + (math.log(4) + 1) ** 2) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 1.0 + 1e-6, 1.7, 2.0])
def test_comp_sum_has_its_special_cases_and_its_gradient(tau):
    logits = np.random.default_rng(0).normal(size=(6, 5), scale=2.0)
    y = np.arange(6) % 5
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    q_y = q[np.arange(6), y]
    by_tau = {
        0.0: 1 / q_y - 1,
        0.5: 2 * (q_y**-0.5 - 1),
        1.0: -np.log(q_y),
        1.0 + 1e-6: -np.log(q_y),
        1.7: (1 - q_y**0.7) / 0.7,
        2.0: 1 - q_y,
    }

    def total(logits):
        of_each = losses.functional.comp_sum(logits, y, tau=tau)
        return jnp.sum(of_each), of_each

    gradient, of_each = jax.jit(jax.grad(total, has_aux=True))(jnp.float32(logits))
    np.testing.assert_allclose(of_each, by_tau[tau], rtol=1e-5)
    of_cross_entropy = q - np.eye(5)[y]
    factor = q_y[:, None] ** (tau - 1)
    np.testing.assert_allclose(
        gradient, factor * of_cross_entropy, rtol=1e-4, atol=1e-6
    )


def test_uniform_kl_is_nothing_at_uniform():
    logits = np.log([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    by_hand = -np.log(3) - (math.log(0.5) + 2 * math.log(0.25)) / 3
    actual = values(losses.UniformKL(), outputs(logits))
    np.testing.assert_allclose(actual, [by_hand, 0.0], rtol=1e-6, atol=1e-7)


def test_confidence_penalty_is_minus_the_entropy():
    logits = np.log([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    found = values(losses.ConfidencePenalty(), outputs(logits))
    np.testing.assert_allclose(found, [-1.5 * math.log(2), -math.log(3)], rtol=1e-6)


def test_an_impossible_entry_adds_nothing_to_the_entropy():
    def total(logits):
        batch = {"targets": np.zeros(1, np.int32)}
        inputs = losses.FullOutputs(batch=batch, logits=logits)
        return jnp.sum(losses.ConfidencePenalty()(inputs))

    value, gradient = jax.jit(jax.value_and_grad(total))(
        np.array([[0.0, 0.0, -np.inf]], np.float32)
    )
    np.testing.assert_allclose(value, -math.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros((1, 3)), atol=1e-7)


def balance(router_logits, assignments, mask=None):
    tokens = router_logits.shape[0]
    mask = np.ones(tokens, bool) if mask is None else mask
    inputs = losses.FullOutputs(
        batch={
            "targets": np.zeros(tokens, np.int32),
            "mask": mask,
            "segment_ids": mask.astype(np.int32),
        },
        logits=np.zeros((tokens, 2), np.float32),
        intermediates={
            "router_logits": np.float32(router_logits),
            "router_assignments": np.int32(assignments),
        },
    )
    return mean(losses.LoadBalance(), inputs)


def test_balanced_experts_give_one():
    assignments = np.arange(8).reshape(4, 1, 2) % 4
    np.testing.assert_allclose(balance(np.zeros((4, 1, 4)), assignments), 1.0)


def test_all_to_the_same_k_experts_gives_experts_over_k():
    sure = np.tile([50.0, 50.0, 0.0, 0.0], (4, 1, 1))
    np.testing.assert_allclose(balance(sure, np.tile([0, 1], (4, 1, 1))), 2.0)


def test_padding_never_counts_in_the_balance():
    router = np.random.default_rng(0).normal(size=(6, 2, 4))
    chosen = np.argsort(-router, axis=-1)[..., :2]
    mask = np.arange(6) < 4
    np.testing.assert_allclose(
        balance(router, chosen, mask), balance(router[:4], chosen[:4]), rtol=1e-6
    )


def test_switch_transformer_product_form():
    """`E Σ_e f_e P_e` of Fedus et al., eq. 4, in float64 NumPy, k = 1."""
    router = np.random.default_rng(3).normal(size=(50, 1, 8))
    chosen = router.argmax(-1)
    probabilities = np.exp(router) / np.exp(router).sum(-1, keepdims=True)
    share = np.bincount(chosen[:, 0], minlength=8) / 50
    expected = 8 * np.sum(share * probabilities[:, 0].mean(0))
    found = balance(router, chosen[..., None])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0])
def test_smoothing_outside_its_range_is_refused(epsilon):
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\), got"):
        losses.SmoothedCrossEntropy(epsilon=epsilon)


@pytest.mark.parametrize("weight", ["1.0", None, True])
def test_a_weight_that_is_no_weight_is_refused(weight):
    with pytest.raises(ValueError, match="weight of 'ce' must be a number"):
        losses.LossTerm(name="ce", loss=losses.CrossEntropy(), weight=weight)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_refused(weight):
    term = losses.LossTerm(name="ce", loss=losses.CrossEntropy())
    with pytest.raises(ValueError, match="weight of 'ce' must be finite, got"):
        dataclasses.replace(term, weight=weight)
    with pytest.raises(ValueError, match="weight of 'kd' must be finite, got"):
        losses.Group(name="kd", terms=[term], weight=weight)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            lambda batch: batch["mask"].astype(jnp.float32),
            "of 'ce' must be bool, got float32 .*wei",
        ),
        (
            lambda batch: batch["mask"].astype(jnp.int32),
            "of 'ce' must be bool, got int32 .*_weight",
        ),
        (lambda batch: batch["mask"][:2], r"the shape of the targets, \(4,\), got \(2"),
    ],
)
def test_a_mask_that_is_not_a_bool_a_token_is_refused(mask, message):
    term = losses.LossTerm(name="ce", loss=losses.CrossEntropy(), mask=mask)
    with pytest.raises(losses.IncompatibleLoss, match=message):
        evaluate([term], outputs(np.zeros((4, 2))))


@pytest.mark.parametrize("mask", [jnp.full(4, 0.5), jnp.arange(4), np.ones(4, "u1")])
def test_a_batch_whose_mask_is_no_bool_is_refused(mask):
    rows = outputs(np.zeros((4, 2)))
    rows = dataclasses.replace(rows, batch={**rows.batch, "mask": mask})
    term = losses.LossTerm(name="ce", loss=losses.CrossEntropy())
    with pytest.raises(
        losses.IncompatibleLoss, match=rf'"mask".* got {mask.dtype} .*token_w'
    ):
        evaluate([term], rows)


def test_a_term_counts_the_tokens_of_its_loss_unless_it_has_a_mask():
    spans = (losses.SpanLikelihood, losses.ULD, losses.HybridULD)
    own = (losses.MiniLLM, losses.PolicyGradient)
    drafted = (losses.Acceptance, losses.AcceptedLength)
    for row in LOSSES.values():
        default = losses.LossTerm(name="term", loss=row.loss).mask
        whole = isinstance(row.loss, (losses.NormSpread, losses.RouteConsistency))
        if whole or "router_logits" in row.loss.needs:
            assert default is losses.token_mask
        elif isinstance(row.loss, own):  # of what the student wrote
            assert default is losses.own_mask
        elif isinstance(row.loss, drafted):  # those that every step reaches
            assert isinstance(default, DraftedMask)
        elif isinstance(row.loss, spans):  # any target may begin one
            assert default is losses.target_mask
        elif row.loss.reads is not None:  # of a pair: one token stands for both texts
            assert default is not losses.target_mask
        else:
            assert default is losses.target_mask
        explicit = losses.LossTerm(name="t", loss=row.loss, mask=losses.target_mask)
        assert explicit.mask is losses.target_mask


def test_a_loss_around_another_counts_what_that_one_does():
    around = losses.OfTeacher(loss=losses.MiniLLM(), teacher="old")
    assert losses.LossTerm(name="term", loss=around).mask is losses.own_mask
    pair = losses.OfTeacher(loss=losses.DPO(), teacher="old")
    assert pair.reads is losses.DPO().reads
    assert pair.default_mask is losses.DPO().default_mask


def test_a_name_that_is_no_identifier_is_refused():
    with pytest.raises(ValueError, match="must be an identifier"):
        losses.LossTerm(name="cross entropy", loss=losses.CrossEntropy())


def test_a_schedule_is_a_function_of_the_step():
    term = losses.LossTerm(
        name="ce",
        loss=losses.CrossEntropy(),
        weight=optax.linear_schedule(0.0, 1.0, 10),
    )
    found = weight_at_step(term.weight, jnp.int32(5))
    np.testing.assert_allclose(found, 0.5)


def test_token_weights_multiply_totals_and_never_counts():
    seen = outputs(np.zeros((4, 2)))
    term = losses.LossTerm(
        name="ce",
        loss=losses.CrossEntropy(),
        token_weight=lambda outputs: jnp.arange(4.0),
    )
    masks = token_masks([term], seen.batch)
    found = per_token([term], seen, masks=masks, statistics={})["ce"]
    np.testing.assert_allclose(found.weighted, math.log(2) * np.arange(4.0), rtol=1e-6)
    assert evaluate([term], seen)["ce"].count == 4.0


def test_uskd_ranks_others_by_both_heads_and_its_soft_targets_have_mean_one():
    draw = np.random.default_rng(0)
    logits, weak = draw.normal(size=(2, 6, 5))
    targets = draw.integers(0, 5, 6)
    q, w = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (logits, weak))
    square = np.mean([q[i, y] ** 2 for i, y in enumerate(targets)])
    expected, soft_targets = [], []
    for i, y in enumerate(targets):  # as the source is written, a row at a time
        rank = w[i] / (1 - w[i, y]) + q[i] / (1 - q[i, y])
        zipf = np.empty(5)
        zipf[np.argsort(-rank)] = 1 / np.arange(1, 6)
        others = np.arange(5) != y
        zipf, q_hat = (x[others] / x[others].sum() for x in (zipf, q[i]))
        smooth = 0.9 * (np.arange(5) == y) + 0.02
        soft_targets.append(q[i, y] ** 2 + 1 - square)
        expected.append(
            -soft_targets[-1] * np.log(q[i, y])
            - 0.3 * zipf @ np.log(q_hat)
            - 0.2 * smooth @ np.log(w[i])
        )
    np.testing.assert_allclose(np.mean(soft_targets), 1.0)
    actual = losses.functional.uskd(
        logits.astype(np.float32),
        weak.astype(np.float32),
        targets,
        np.float32(square),
        weights=(1.0, 0.3, 0.2),
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
