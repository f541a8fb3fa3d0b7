"""Estimates from one draw: exact expectations in float64, value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import functional
from losses.functional import sampled

VOCABULARY = 11
GENERATOR = np.random.default_rng(3)
STUDENT, TEACHER = GENERATOR.normal(0.0, 1.5, (2, VOCABULARY))
TEMPERATURE = 1.5


def distributions():
    """`log q` and `log p` at the temperature, float64."""
    scores = np.stack([STUDENT, TEACHER]) / TEMPERATURE
    return scores - np.log(np.sum(np.exp(scores), axis=-1, keepdims=True))


@jax.jit
def every_draw():
    """Values and gradients in the student's logits, where each id in turn is drawn."""

    def value(logits, target, estimator):
        return functional.sampled_reverse_kl(
            logits[None],
            jnp.asarray(TEACHER, jnp.float32)[None],
            target[None],
            TEMPERATURE,
            estimator=estimator,
        )[0]

    targets = jnp.arange(VOCABULARY)
    logits = jnp.asarray(STUDENT, jnp.float32)
    return {
        name: jax.vmap(jax.value_and_grad(value), in_axes=(None, 0, None))(
            logits, targets, name
        )
        for name in ("k1", "k2", "k3")
    }


def expected_gradient(of_id):
    """`Σ_y q_y of_id(y) ∇ log q_y`, in the logits; `∇ log q_y = (e_y - q) / T`."""
    q = np.exp(distributions()[0])
    score = (np.eye(VOCABULARY) - q) / TEMPERATURE
    return np.sum((q * of_id)[:, None] * score, axis=0)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_expectation_is_what_is_estimated(estimator):
    log_q, log_p = distributions()
    q, p = np.exp(log_q), np.exp(log_p)
    reverse = np.sum(q * (log_q - log_p))
    value, gradient = (np.asarray(x, np.float64) for x in every_draw()[estimator])
    expected = {
        "k1": reverse,
        "k3": reverse,
        "k2": np.sum(q * (log_q - log_p) ** 2 / 2),
    }
    np.testing.assert_allclose(np.sum(q * value), expected[estimator], rtol=1e-5)
    # k1 and k2 point where the reverse KL does, k3 where the forward one does.
    of_reverse = expected_gradient(log_q - log_p)
    of_forward = (q - p) / TEMPERATURE
    wanted = of_forward if estimator == "k3" else of_reverse
    mean = np.sum(q[:, None] * gradient, axis=0)
    np.testing.assert_allclose(mean, wanted, rtol=1e-4, atol=1e-6)
    assert np.min(value) >= 0.0 or estimator == "k1"


def test_of_an_unlikely_draw_k1_is_the_gap_to_the_last_bit():
    log_q, log_p = np.float32([-366.5, -7.25]), np.float32([-1e5, -2.5])
    value = sampled.estimate(jnp.asarray(log_q), jnp.asarray(log_p), "k1")
    np.testing.assert_array_equal(value, log_q - log_p)


def test_records_of_the_best_entries_are_refused():
    stored = losses.RecordSpec(mode="top_k", temperatures=(1.0,))
    for loss in (
        losses.SampledReverseKL(),
        losses.OverStudentBest(),
        losses.Agreement(),
    ):
        with pytest.raises(ValueError, match="and the records hold"):
            loss.check_records(stored)
    with pytest.raises(ValueError, match="estimator must be one of k1, k2, k3"):
        losses.SampledReverseKL(estimator="k4")  # pyright: ignore[reportArgumentType]


def test_over_all_entries_the_students_best_are_the_whole_divergence():
    @jax.jit
    def values(*logits):
        best = [functional.over_student_best(*logits, best=k) for k in (4, 99)]
        return *best, functional.reverse_kl(*logits)

    logits = [x.astype(np.float32)[None] for x in (STUDENT, TEACHER)]
    some, every, whole = (float(x[0]) for x in values(*logits))
    assert 0.0 < some < every
    np.testing.assert_allclose(every, whole, rtol=1e-5)


def test_agreement_by_hand():
    p = np.log(np.float32([[0.5, 0.3, 0.15, 0.05]]))
    q = np.log(np.float32([[0.1, 0.6, 0.2, 0.1]]))
    by_hand = {
        ("overlap", 1): 0.0,
        ("overlap", 2): 0.5,
        ("student_mass", 2): 0.7,
        ("teacher_mass", 2): 0.45,
    }

    @jax.jit
    def values(q, p):
        return [
            functional.agreement(q, p, measure=measure, best=best)
            for measure, best in by_hand
        ]

    expected = [[value] for value in by_hand.values()]
    np.testing.assert_allclose(values(q, p), expected, rtol=1e-6)
