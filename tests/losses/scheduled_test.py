"""A number of a loss follows the step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses

LOGITS, TEACHER = (
    np.random.default_rng(0).normal(size=(2, 3, 5), scale=2.0).astype(np.float32)
)
RISING = optax.linear_schedule(0.2, 0.7, 10)
WARMING = optax.linear_schedule(1.0, 3.0, 10)


def at(step):
    return losses.FullOutputs(
        batch={"targets": jnp.zeros(3, jnp.int32)},
        logits=jnp.asarray(LOGITS),
        teacher=losses.TeacherOutputs(logits=jnp.asarray(TEACHER)),
        step=step,
    )


NUMBERS = [
    (losses.ForwardKL(scale_by_temperature_squared=True), "temperature", WARMING),
    (losses.SymmetricKL(), "reverse_weight", RISING),
    (losses.JensenShannon(), "beta", RISING),
    (losses.SkewForwardKL(), "skew", RISING),
    (losses.SkewReverseKL(), "skew", RISING),
    (losses.SmoothedCrossEntropy(), "epsilon", RISING),
    (losses.Dice(), "smoothing", RISING),
]


def test_it_is_the_loss_with_the_number_of_the_step():
    scheduled = [
        losses.Scheduled(loss=loss, field=field, schedule=schedule)
        for loss, field, schedule in NUMBERS
    ]
    warmer = losses.Scheduled(loss=scheduled[1], field="temperature", schedule=WARMING)

    @jax.jit
    def values(step):
        return [loss(at(step)) for loss in (*scheduled, warmer)]

    for step in (0, 4, 50):
        *actual, both = values(jnp.int32(step))
        for (loss, field, schedule), value in zip(NUMBERS, actual, strict=True):
            fixed = dataclasses.replace(loss, **{field: float(schedule(step))})
            np.testing.assert_allclose(value, fixed(at(0)), rtol=2e-5, atol=1e-6)
        fixed = losses.SymmetricKL(
            reverse_weight=float(RISING(step)), temperature=float(WARMING(step))
        )
        np.testing.assert_allclose(both, fixed(at(0)), rtol=2e-5, atol=1e-6)


def test_a_number_that_no_schedule_fits_is_refused():
    loss = losses.JensenShannon()
    with pytest.raises(
        ValueError, match=r"number of JensenShannon \(temperature, beta"
    ):
        losses.Scheduled(loss=loss, field="betas", schedule=RISING)
    with pytest.raises(ValueError, match="beta must be in"):
        losses.Scheduled(loss=loss, field="beta", schedule=WARMING)
    with pytest.raises(ValueError, match="a function of the step, got 0"):
        losses.Scheduled(loss=loss, field="beta", schedule=0.5)
    taid = losses.TAID(loss=losses.ForwardKL(), num_steps=9)
    with pytest.raises(ValueError, match="share of TAID follows the loss by itself"):
        losses.Scheduled(loss=taid, field="share", schedule=RISING)
    by_form = losses.Scheduled(loss=losses.CompSum(), field="tau", schedule=RISING)
    with pytest.raises(losses.IncompatibleLoss, match="tau of CompSum cannot follow"):
        jax.eval_shape(lambda step: by_form(at(step)), jnp.int32(0))


def test_a_target_on_the_way_is_nothing_at_the_student_and_all_at_the_teacher():
    def value(logits, share):
        inputs = dataclasses.replace(at(0), logits=logits)
        inner = losses.ForwardKL()
        return jnp.sum(losses.Interpolated(loss=inner, share=share)(inputs))

    @jax.jit
    def run(logits):
        slopes = [jax.grad(value)(logits, share) for share in (0.0, 0.5)]
        return slopes, value(logits, 1.0), jnp.sum(losses.ForwardKL()(at(0)))

    (slope, between), actual, whole = run(LOGITS)
    np.testing.assert_allclose(slope, np.zeros_like(LOGITS), atol=1e-6)
    np.testing.assert_allclose(actual, whole, rtol=1e-5)
    q, p = (jax.nn.softmax(x) for x in (LOGITS, (LOGITS + TEACHER) / 2))
    np.testing.assert_allclose(between, q - p, atol=1e-5)
