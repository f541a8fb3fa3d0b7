"""Rates by width, and a decay of its own, against optax and by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from runner import optimizers
from runner.errors import UserError
from runner.step_rules import ByWidth, IndependentDecay, ruled

STUDENT = {
    "embedding": (7, 32),
    "blocks": {"0": {"mlp": {"up": (32, 5), "up_bias": (5,)}}},
    "norm": {"scale": (32,)},
    "output": (7, 32),
}


def draw(seed):
    random = np.random.default_rng(seed)
    shapes = {"student": STUDENT, "losses": {}, "weights": {}}
    return jax.tree.map(
        lambda shape: np.float32(random.normal(size=shape)),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


GRADIENTS = [draw(seed) for seed in range(1, 4)]


def run(optimizer: Any, params):
    optimizer = optimizers.in_float32(optimizer)
    state = optimizer.init(params)
    for gradient in GRADIENTS:
        updates, state = optimizer.update(gradient, state, params)
        params = optimizers.apply_updates(params, updates)
    return params


def assert_near(left, right):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), left, right)


def test_linear_layers_have_rates_by_their_width_and_nothing_else_has():
    @jax.jit
    def runs(params):
        bases = [ruled(optax.sgd(1.0), {"by": ByWidth(base_dim=x)}) for x in (8, 32)]
        return [run(optimizer, params) for optimizer in (*bases, optax.sgd(1.0))]

    slow, of_base, plain = runs(draw(0))
    assert_near(of_base, plain)
    moved = jax.tree.map(np.subtract, plain, draw(0))["student"]
    moved["output"] /= 4
    moved["blocks"]["0"]["mlp"]["up"] /= 4
    assert_near(slow["student"], jax.tree.map(np.add, draw(0)["student"], moved))
    tree = {"student": {"w": jnp.ones(2)}}
    with pytest.raises(UserError, match="width of a student's embedding"):
        by_width = ruled(optax.identity(), {"by": ByWidth(base_dim=8)})
        by_width.update(tree, by_width.init(tree), tree)


def test_a_decay_of_its_own_is_adamw_of_the_decay_over_the_peak():
    peak, decay = 0.2, 1e-2
    rate = optax.linear_schedule(peak, 0.0, 3)
    shares = optax.linear_schedule(1.0, 0.0, 3)

    def own(optimizer, **fields):
        return ruled(optimizer, {"decay": IndependentDecay(decay=decay, **fields)})

    @jax.jit
    def runs(params):
        matrices = jax.tree.map(lambda x: x.ndim > 1, params)
        adamw = optax.adamw(rate, weight_decay=decay / peak, mask=matrices)
        every = own(optax.adam(rate), schedule=shares), adamw, own(optax.set_to_zero())
        return [run(optimizer, params) for optimizer in every]

    scheduled, adamw, alone = runs(draw(0))
    assert_near(scheduled, adamw)
    output = draw(0)["student"]["output"]
    assert_near(alone["student"]["output"], (1 - decay) ** 3 * output)
    assert_near(alone["student"]["norm"], draw(0)["student"]["norm"])
