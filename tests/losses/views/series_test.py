"""Losses of series: errors of hidden numbers, the prior, moments told apart."""

import jax.numpy as jnp
import numpy as np

import losses
from losses import functional

SHAPE = (3, 4, 2)


def outputs(path, loss):
    draw = np.random.default_rng(0)
    predicted, values = draw.normal(size=(2, *SHAPE)).astype(np.float32)
    observed = draw.random(SHAPE) < 0.7
    hidden = ~observed & (draw.random(SHAPE) < 0.5)
    seen = observed & (draw.random(SHAPE) < 0.5)
    inputs = losses.FullOutputs(
        batch={"values": values, "observed": observed, "hidden": hidden},
        logits=predicted,
        intermediates={"view/part/logits": predicted, "view/part/observed": seen},
    )
    counted = {"hidden": observed & ~seen, "observed": seen, "data": hidden}[path]
    numbers = loss.statistics(inputs)
    means = {name: jnp.mean(x) for name, x in numbers.items()}
    gap = (np.asarray(predicted, np.float64) - values)[counted]
    object.__setattr__(inputs, "statistics", means)
    return float(jnp.mean(loss(inputs))), gap


def test_the_mean_over_moments_is_the_error_of_the_numbers_that_count():
    of_view = losses.ValueDistance(view="part", power=2)
    mean, gap = outputs("hidden", of_view)
    np.testing.assert_allclose(mean, np.mean(gap**2), rtol=1e-5)
    mean, gap = outputs("observed", losses.ValueDistance(view="part", over="observed"))
    np.testing.assert_allclose(mean, np.mean(np.abs(gap)), rtol=1e-5)
    of_data = losses.ValueDistance()
    assert of_data.needs == {"logits"}
    mean, gap = outputs("data", of_data)
    np.testing.assert_allclose(mean, np.mean(np.abs(gap)), rtol=1e-5)


def test_the_prior_divergence_is_that_of_an_integral_and_zero_at_the_prior():
    z = np.linspace(-30.0, 30.0, 200_001)
    expected = 0.0
    for mean, log_variance in ((0.7, -2.0), (-1.5, 1.0)):
        deviation = np.exp(0.5 * log_variance)
        log_q = -0.5 * ((z - mean) / deviation) ** 2 - np.log(deviation)
        log_p = -0.5 * z**2
        q = np.exp(log_q) / np.sqrt(2 * np.pi)
        expected += np.trapezoid(q * (log_q - log_p), z)
    means = np.float32([[0.7, -1.5], [0.0, 0.0]])
    log_variances = np.float32([[-2.0, 1.0], [0.0, 0.0]])
    values = functional.prior_kl(means, log_variances)
    np.testing.assert_allclose(values, [expected, 0.0], rtol=1e-5, atol=1e-7)


def test_moments_that_are_alike_cost_the_logarithm_of_their_number():
    alike = jnp.ones((1, 5, 3))
    mask = jnp.array([[True, True, True, False, True]])
    values = functional.step_contrast(alike, alike, mask)
    np.testing.assert_allclose(values[mask], np.log(4.0), rtol=1e-6)
    draw = np.random.default_rng(0)
    view, clean = draw.normal(size=(2, 1, 5, 3))
    units = [x[0] / np.linalg.norm(x[0], axis=1, keepdims=True) for x in (view, clean)]
    cosines = units[0] @ units[1].T
    kept = np.exp(cosines)[np.asarray(mask[0])]  # moments of the view, in a column
    expected = np.log(kept.sum(0)) - np.diagonal(cosines)
    values = functional.step_contrast(jnp.float32(view), jnp.float32(clean), mask)
    np.testing.assert_allclose(values[mask], expected[np.asarray(mask[0])], rtol=1e-5)
