"""What holds for every loss; a new loss adds one row to `LOSSES`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import losses

VOCABULARY, LAYERS, EXPERTS, CHOSEN = 7, 2, 4, 2

LOSSES = {
    "cross_entropy": losses.CrossEntropy(),
    "smoothed_cross_entropy": losses.SmoothedCrossEntropy(epsilon=0.2),
    "z_loss": losses.ZLoss(),
    "router_z_loss": losses.RouterZLoss(),
    "load_balance": losses.LoadBalance(),
    "confidence_penalty": losses.ConfidencePenalty(),
}

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def test_every_loss_has_its_row():
    public = {getattr(losses, name) for name in losses.__all__}
    concrete = {
        x
        for x in public
        if isinstance(x, type) and issubclass(x, losses.Loss) and x is not losses.Loss
    }
    assert concrete == {type(loss) for loss in LOSSES.values()}


def arrays(shape=(3, 5), *, seed=0, scale=1.0):
    """Differentiable inputs, and the batch with its integer intermediates."""
    rng = np.random.default_rng(seed)
    draw = functools.partial(rng.normal, scale=scale)
    floats = {
        "logits": jnp.asarray(draw(size=(*shape, VOCABULARY)), jnp.float32),
        "router_logits": jnp.asarray(draw(size=(*shape, LAYERS, EXPERTS)), jnp.float32),
    }
    fixed = {
        "targets": jnp.asarray(rng.integers(0, VOCABULARY, shape), jnp.int32),
        "mask": jnp.asarray(rng.random(shape) < 0.6),
        "router_assignments": jnp.asarray(
            np.argsort(rng.random((*shape, LAYERS, EXPERTS)))[..., :CHOSEN], jnp.int32
        ),
    }
    return floats, fixed


def outputs(floats, fixed):
    return losses.Outputs(
        batch={"targets": fixed["targets"], "mask": fixed["mask"]},
        logits=floats["logits"],
        intermediates={
            "router_logits": floats["router_logits"],
            "router_assignments": fixed["router_assignments"],
        },
    )


def total(loss, floats, fixed):
    """The masked sum of one term, statistics over these tokens."""
    term = losses.LossTerm(name="term", loss=loss)
    return losses.evaluate([term], outputs(floats, fixed))["term"].total


def per_token(loss, floats, fixed):
    term = losses.LossTerm(name="term", loss=loss)
    seen = outputs(floats, fixed)
    masks = {"term": fixed["mask"]}
    sums = losses.statistic_sums([term], seen, masks=masks)["term"]
    count = jnp.sum(fixed["mask"], dtype=jnp.float32)
    means = {"term": {name: value / count for name, value in sums.items()}}
    found = losses.per_token([term], seen, masks=masks, statistics=means)
    return found["term"].values


@every_loss
@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 2)])
def test_one_float32_value_per_token(loss, shape):
    values = per_token(loss, *arrays(shape))
    assert values.shape == shape
    assert values.dtype == jnp.float32


@every_loss
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_masked_tokens_count_nothing_and_get_exactly_zero_gradient(loss, poison):
    floats, fixed = arrays()
    masked = ~fixed["mask"]

    def poisoned(x):
        wide = masked.reshape(masked.shape + (1,) * (x.ndim - masked.ndim))
        return jnp.where(wide, poison, x)

    value, gradient = jax.value_and_grad(functools.partial(total, loss))(
        jax.tree.map(poisoned, floats), fixed
    )
    clean_value, clean_gradient = jax.value_and_grad(functools.partial(total, loss))(
        floats, fixed
    )
    np.testing.assert_array_equal(value, clean_value)
    for name, found in gradient.items():
        assert not np.any(found[masked]), name
        np.testing.assert_array_equal(found, clean_gradient[name])


@every_loss
def test_blocks_of_tokens_sum_to_the_whole(loss):
    floats, fixed = arrays((12,))
    term = losses.LossTerm(name="term", loss=loss)
    whole = outputs(floats, fixed)
    masks = {"term": fixed["mask"]}
    sums = losses.statistic_sums([term], whole, masks=masks)["term"]
    count = jnp.sum(fixed["mask"], dtype=jnp.float32)
    means = {"term": {name: value / count for name, value in sums.items()}}

    def block(start, stop):
        cut = jax.tree.map(lambda x: x[start:stop], (floats, fixed))
        found = losses.per_token(
            [term],
            outputs(*cut),
            masks={"term": cut[1]["mask"]},
            statistics=means,
        )
        return jnp.sum(found["term"].values)

    parts = block(0, 5) + block(5, 6) + block(6, 12)
    np.testing.assert_allclose(parts, total(loss, floats, fixed), rtol=1e-6)


@every_loss
def test_finite_at_extreme_logits(loss):
    floats, fixed = arrays()
    extreme = jax.tree.map(lambda x: jnp.sign(x) * 1e4, floats)
    value, gradient = jax.value_and_grad(functools.partial(total, loss))(extreme, fixed)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))


@every_loss
def test_gradient_agrees_with_finite_differences(loss):
    floats, fixed = arrays((2, 3))
    count = max(float(np.sum(fixed["mask"])), 1.0)
    seen = outputs(floats, fixed)
    masks = {"term": fixed["mask"]}
    term = losses.LossTerm(name="term", loss=loss)
    sums = losses.statistic_sums([term], seen, masks=masks)["term"]
    means = {"term": {name: value / count for name, value in sums.items()}}

    def mean(floats):
        found = losses.per_token(
            [term], outputs(floats, fixed), masks=masks, statistics=means
        )
        return jnp.sum(found["term"].values) / count

    check_grads(mean, (floats,), order=1, modes=["rev"], eps=1e-2, atol=5e-3, rtol=5e-3)


@every_loss
def test_reads_only_what_it_needs(loss):
    floats, fixed = arrays()
    for name in floats:
        changed = floats | {name: floats[name] * 2.0 + 1.0}
        difference = float(total(loss, changed, fixed) - total(loss, floats, fixed))
        assert (difference != 0.0) == (name in loss.needs), name
