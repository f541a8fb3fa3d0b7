"""Weights whose numbers are not finite are refused where they are made."""

import math

import jax.numpy as jnp
import pytest

import losses

MADE = [
    lambda x: losses.LossTerm(name="z", loss=losses.ZLoss(), weight=x),
    lambda x: losses.MatchValue(to="ce", scale=x),
    lambda x: losses.MatchGradient(to="ce", cap=x),
    lambda x: losses.Uncertainty(scale=x),
    lambda x: losses.Uncertainty(initial_log_variance=x),
    lambda x: losses.TeacherConfidence(power=x),
    lambda x: losses.TeacherEntropy(scale=x),
    lambda x: losses.Position(inside=x),
    lambda x: losses.Span(begin=1, end=2, outside=x),
    lambda x: losses.RelativeLoss(spread=x),
    lambda x: losses.LearningProgress(num_rows=3, most=x),
]


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(make, value):
    with pytest.raises(ValueError, match=f"must be finite, got {value}$"):
        make(value)


def test_the_entropy_of_draws_at_another_temperature_is_named():
    teacher = losses.TeacherOutputs(
        indices=jnp.zeros((3, 4), jnp.int32), entropies={2.0: jnp.ones(3)}
    )
    outputs = losses.FullOutputs(batch={}, logits=jnp.zeros((3, 5)), teacher=teacher)
    with pytest.raises(losses.IncompatibleLoss, match=r"1\.0, .* stored: 2\.0$"):
        losses.TeacherEntropy()(outputs)
