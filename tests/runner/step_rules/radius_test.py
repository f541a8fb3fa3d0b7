"""The convergence radius of a cross-entropy, against its power series."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from runner.errors import UserError
from runner.step_rules import ConvergenceRadius, StepRule, ruled

PARAMS = {"student": {"w": jnp.zeros((3, 4))}, "losses": {}, "weights": {}}
INPUTS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Linear:
    """Slopes of `z = x W`, of the tokens with these inputs."""

    inputs: np.ndarray
    shift: float = 0.0

    def largest(self, direction, per_token, *, rows=None):
        slopes = jnp.asarray(self.inputs[:rows]) @ direction["w"] + self.shift
        return jnp.max(per_token(slopes))


def stepped(rule, updates, slopes=None):
    """The updates that a rule leaves of `updates`, and its numbers."""
    optimizer: Any = ruled(optax.identity(), {"radius": rule})
    tree = {**PARAMS, "student": {"w": jnp.asarray(updates, jnp.float32)}}
    after, state = optimizer.update(
        tree,
        optimizer.init(PARAMS),
        PARAMS,
        value=jnp.float32(1.0),
        slopes=slopes or Linear(INPUTS),
    )
    return np.asarray(after["student"]["w"]), state.step_rules["radius"]


def spread(updates, inputs=INPUTS):
    slopes = inputs.astype(np.float64) @ np.asarray(updates, np.float64)
    return np.ptp(slopes, axis=1).max()


UPDATES = np.random.default_rng(1).normal(size=(3, 4)) * 5


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_long_step_ends_on_the_radius_and_a_short_one_stays(temperature):
    rule = ConvergenceRadius(largest=0.5, temperature=temperature)
    ratio = spread(UPDATES) / (np.pi * temperature)
    after, numbers = stepped(rule, UPDATES)
    np.testing.assert_allclose(numbers["ratio"], ratio, rtol=1e-5)
    np.testing.assert_allclose(after, UPDATES * min(1, 0.5 / ratio), rtol=1e-5)
    assert spread(after) <= np.pi * temperature * 0.5 * (1 + 1e-5)
    short, numbers = stepped(rule, UPDATES / (4 * ratio))
    np.testing.assert_array_equal(short, (UPDATES / (4 * ratio)).astype(np.float32))
    assert numbers["scale"] == 1.0


def test_an_exact_ratio_sets_the_length_of_every_step():
    rule = ConvergenceRadius(largest=2.0, exact=True)
    results = [stepped(rule, UPDATES * scale)[0] for scale in (1e-3, 1.0, 1e3)]
    for after in results:
        np.testing.assert_allclose(spread(after), 2 * np.pi, rtol=1e-5)
    assert not stepped(rule, UPDATES * 0)[0].any()


def test_what_is_added_to_all_logits_of_a_token_moves_nothing():
    rule = ConvergenceRadius()
    plain, _ = stepped(rule, UPDATES)
    shifted, _ = stepped(rule, UPDATES, Linear(INPUTS, shift=16.0))
    np.testing.assert_allclose(shifted, plain, rtol=1e-4)


def test_rows_are_those_that_are_looked_at():
    _, numbers = stepped(ConvergenceRadius(rows=2), UPDATES)
    ratio = spread(UPDATES, INPUTS[:2]) / np.pi
    np.testing.assert_allclose(numbers["ratio"], ratio, rtol=1e-5)


@pytest.mark.parametrize("gap", [0.0, 1.5])
def test_the_series_of_two_classes_ends_no_earlier_than_the_radius(gap):
    """Of `log(1 + exp(gap + τ))`: the zero is at `|τ| = √(gap² + π²)`, π or more."""
    # By `σ' = σ - σ²`: the coefficients of σ, and so of its integral.
    sigma = [1 / (1 + np.exp(-gap))]
    for n in range(220):
        square = sum(sigma[k] * sigma[n - k] for k in range(n + 1))
        sigma.append((sigma[n] - square) / (n + 1))
    series = np.array([np.logaddexp(0, gap), *np.divide(sigma, np.arange(1, 222))])
    radius = np.hypot(gap, np.pi)
    _, numbers = stepped(
        ConvergenceRadius(), np.eye(3, 4), Linear(np.array([[1.0, 0.0, 0.0]]))
    )
    np.testing.assert_allclose(1 / numbers["ratio"], np.pi, rtol=1e-6)
    powers = np.arange(len(series))
    inside = np.sum(series * (0.9 * np.pi) ** powers)
    np.testing.assert_allclose(inside, np.logaddexp(0, gap + 0.9 * np.pi), rtol=1e-6)
    late = np.abs(series * (1.1 * radius) ** powers)[-40:]
    assert late.max() > 1e3


class Halved(StepRule):
    """A rule of one's own."""

    numbers = ("value", "step")

    def __call__(self, updates, context):
        numbers = {"value": context.value, "step": context.step.astype(jnp.float32)}
        return jax.tree.map(lambda x: x / 2, updates), numbers


def test_rules_run_in_order_after_the_optimizer():
    optimizer: Any = ruled(optax.sgd(1.0), {"first": Halved(), "second": Halved()})
    state = optimizer.init(PARAMS)
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    for step in range(2):
        updates, state = optimizer.update(
            gradient, state, PARAMS, value=jnp.float32(7.0), slopes=None
        )
        np.testing.assert_array_equal(updates["student"]["w"], -0.25)
        assert state.step_rules["second"] == {"value": 7.0, "step": step}


def test_bad_rules_are_refused():
    with pytest.raises(ValueError, match="at least one step rule"):
        ruled(optax.sgd(1.0), {})
    with pytest.raises(ValueError, match="one word, got 'a b'"):
        ruled(optax.sgd(1.0), {"a b": ConvergenceRadius()})
    with pytest.raises(ValueError, match="rows must be positive, got 0"):
        ConvergenceRadius(rows=0)


def test_an_optimiser_with_rules_takes_no_others():
    inner = ruled(optax.identity(), {"radius": ConvergenceRadius()})
    optimizer = ruled(optax.chain(inner), {"other": ConvergenceRadius()})
    with pytest.raises(UserError, match=r"give all of them, in order, to one"):
        optimizer.init(PARAMS)
