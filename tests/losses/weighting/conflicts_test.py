"""The weight that projects another term's gradient, and weights within groups."""

import jax.numpy as jnp
import numpy as np

import losses
from losses.core.batch_weights import BalanceInputs, BatchValues


def test_a_term_that_is_unopposed_has_the_gradient_of_the_projection():
    draw = np.random.default_rng(0)
    for sign in (-1.0, 1.0):
        ce, kd = draw.normal(size=(2, 9))
        kd += sign * 2.0 * ce
        rows = np.stack([ce, kd])
        inner = jnp.asarray(rows @ rows.T, jnp.float32)
        names, own = ("ce", "kd"), {"ce": jnp.float32(1.0)}
        inputs = BalanceInputs(step=jnp.int32(0), inner=inner, names=names)
        balance = losses.Unopposed(of="kd", of_weight=0.5)
        weight, _ = balance(own, inputs, {}, {})

        # In all parameters it reads the products of these alone.
        inputs = BalanceInputs(
            step=jnp.int32(0), inner_of_parameters=inner, names=names
        )
        balance = losses.Unopposed(of="kd", of_weight=0.5, over="parameters")
        assert balance.wants == "parameter gradients"
        assert balance(own, inputs, {}, {})[0] == weight
        other = 0.5 * kd
        if sign < 0.0:  # the textbook's projection, on the half-space of `ce`
            other = other - (other @ ce) / (ce @ ce) * ce
            assert abs(other @ ce) < 1e-6
        np.testing.assert_allclose(float(weight) * ce + 0.5 * kd, ce + other, rtol=1e-5)


def test_rows_are_resampled_by_their_losses_within_a_group():
    values = np.array([0.3, 0.1, 0.7, 0.2, 0.9, np.nan], np.float32)
    users = np.array([0, 0, 1, 0, 2, 1], np.int32)

    def weights(shift=0.0, **fields):
        reweighting = losses.Resampled(column="user", num_groups=2, **fields)
        inputs = BatchValues(
            values=jnp.asarray(values + shift * (users == 0)),
            mask=jnp.ones(6, bool),
            batch={"user": users, "targets": users},
            step=jnp.int32(3),
        )
        return np.asarray(reweighting(inputs, {})[0])

    share = np.exp(-np.float64(values[users == 0]) / 0.1)
    expected = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])  # one row: plain; none; NaN
    expected[[0, 1, 3]] = 3 * share / share.sum()
    np.testing.assert_allclose(weights(), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(weights(shift=5.0), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(weights(temperature=1e6)[[0, 1, 3]], 1.0, rtol=1e-5)
    np.testing.assert_allclose(weights(temperature=1e-4)[[0, 1, 3]], [0.0, 3.0, 0.0])
    np.testing.assert_array_equal(weights(after=9), np.ones(6))
