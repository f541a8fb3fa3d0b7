"""Token weights by what the teacher says, or by where a token stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import losses
from losses import Position, TeacherConfidence, TeacherEntropy

LOGITS = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32) * 2.0


def seen(teacher, **batch):
    return losses.FullOutputs(batch=batch, logits=jnp.zeros((5, 7)), teacher=teacher)


def whole():
    return losses.TeacherOutputs(logits=jnp.asarray(LOGITS))


def best(k):
    order = np.argsort(-LOGITS, axis=-1)[:, :k]
    return losses.TeacherOutputs(
        indices=jnp.asarray(order, jnp.int32),
        logits=jnp.take_along_axis(jnp.asarray(LOGITS), jnp.asarray(order), axis=-1),
        log_normalizers={1.0: jax.nn.logsumexp(jnp.asarray(LOGITS), axis=-1)},
    )


@pytest.mark.parametrize("teacher", [whole(), best(3)])
def test_confidence_is_the_largest_probability(teacher):
    p = scipy.special.softmax(LOGITS.astype(np.float64), axis=-1)
    found = TeacherConfidence(power=2.0)(seen(teacher))
    np.testing.assert_allclose(found, np.max(p, axis=-1) ** 2, rtol=1e-5)


def test_entropy_is_that_of_the_whole_distribution():
    p = scipy.special.softmax(LOGITS.astype(np.float64), axis=-1)
    expected = np.exp(-np.sum(scipy.special.entr(p), axis=-1) / 0.5)
    np.testing.assert_allclose(
        TeacherEntropy(scale=0.5)(seen(whole())), expected, rtol=1e-4
    )


def test_entropy_over_stored_entries_counts_the_rest_as_one():
    p = np.sort(scipy.special.softmax(LOGITS.astype(np.float64), axis=-1))[:, ::-1]
    lumped = np.concatenate([p[:, :3], np.sum(p[:, 3:], -1, keepdims=True)], -1)
    expected = np.exp(-np.sum(scipy.special.entr(lumped), axis=-1))
    np.testing.assert_allclose(TeacherEntropy()(seen(best(3))), expected, rtol=1e-5)


def test_positions_are_those_in_the_document():
    at = jnp.asarray([0, 1, 2, 0, 1])
    weights = Position(first=1, last=2, inside=2.0, outside=0.5)(
        seen(None, positions=at)
    )
    np.testing.assert_array_equal(weights, [0.5, 2.0, 0.5, 0.5, 2.0])


def test_draws_have_no_largest_probability():
    drawn = losses.TeacherOutputs(indices=jnp.zeros((5, 2), jnp.int32))
    with pytest.raises(ValueError, match="records hold draws"):
        TeacherConfidence()(seen(drawn))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TeacherEntropy(scale=0.0), "scale must not be 0"),
        (lambda: Position(first=3, last=3), "must hold a position"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
