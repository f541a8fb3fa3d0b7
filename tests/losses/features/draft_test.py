"""Values of a draft against NumPy, and which targets they count."""

import jax.numpy as jnp
import numpy as np
import pytest

import losses

POSITIONS = np.array([[0, 1, 2, 3, 0, 1, 2]], np.int32)
MASK = np.array([[1, 1, 1, 1, 1, 0, 1]], bool)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def test_a_draft_is_accepted_as_far_as_both_distributions_overlap():
    draw = np.random.default_rng(0)
    p, *drafts = draw.normal(size=(3, 1, 7, 5)).astype(np.float32)
    targets = draw.integers(0, 5, (1, 7)).astype(np.int32)
    batch = {"targets": targets, "positions": POSITIONS, "mask": MASK}
    outputs = losses.FullOutputs(
        batch=batch,
        logits=jnp.asarray(p),
        intermediates={
            f"head/draft/{j}": jnp.asarray(d) for j, d in enumerate(drafts, 1)
        },
    )
    q, first, second = (softmax(np.float64(x)) for x in (p, *drafts))
    rates = [np.minimum(q, d).sum(-1) for d in (first, second)]
    for step, expected in enumerate(rates, 1):
        metric = losses.Acceptance(step=step)
        np.testing.assert_allclose(metric(outputs), expected, rtol=1e-5)
        counted = (step <= POSITIONS) & MASK
        np.testing.assert_array_equal(metric.default_mask(batch), counted)

    length = losses.AcceptedLength(steps=2)
    at = np.asarray(length.default_mask(batch))[0]
    np.testing.assert_array_equal(np.flatnonzero(at), [2, 3])  # 6 follows a token out
    for t in (2, 3):
        one = rates[0][0, t - 1]
        expected = one + one * rates[1][0, t]
        np.testing.assert_allclose(length(outputs)[0, t], expected, rtol=1e-5)

    loss = losses.Draft(loss=losses.ReverseKL(), steps=2, decay=0.5)
    value = np.zeros(7)
    for j, d in enumerate((first, second), 1):
        kl = np.sum(d * np.log(d / q), axis=-1)[0]
        value += 0.5 ** (j - 1) / 2 * kl * (POSITIONS[0] >= j)
    np.testing.assert_allclose(loss(outputs)[0], value, rtol=1e-4)
    assert loss.needs == {"logits", "head/draft/1", "head/draft/2"}


def test_a_draft_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        losses.Draft(loss=losses.CrossEntropy(), steps=0)
