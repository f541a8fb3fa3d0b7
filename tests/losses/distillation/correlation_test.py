"""DIST beside SciPy's correlation, over the vocabulary and over the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

import losses
from losses.core.term_values import evaluate, per_token, statistic_sums

TOKENS, VOCABULARY, TEMPERATURE = 12, 5, 2.0
MASK = np.random.default_rng(3).random(TOKENS) < 0.7
COUNT = float(MASK.sum())
LOSS = losses.IntraClassCorrelation(
    temperature=TEMPERATURE, scale_by_temperature_squared=True
)
TERM = losses.LossTerm(name="intra", loss=LOSS)


def drawn():
    draw = np.random.default_rng(0)
    return draw.normal(size=(2, TOKENS, VOCABULARY), scale=2)


def outputs(t, s, mask=MASK):
    t, s = jnp.asarray(t, jnp.float32), jnp.asarray(s, jnp.float32)
    targets = jnp.zeros(mask.shape, jnp.int32)
    return losses.FullOutputs(
        batch={"targets": targets, "mask": jnp.asarray(mask)},
        logits=s,
        teacher=losses.TeacherOutputs(logits=t),
    )


def intra64(t, s):
    """As printed: the transposed probabilities of the counted tokens, a class a row."""
    p, q = (softmax(x[MASK] / TEMPERATURE, axis=-1) for x in (t, s))
    rows = zip(p.T, q.T, strict=True)
    return TEMPERATURE**2 * np.mean([1 - np.corrcoef(*row)[0, 1] for row in rows])


def slopes64(t, s, *, step=1e-5):
    actual = np.zeros(s.shape)
    for at in np.ndindex(s.shape):
        moved = [s.copy(), s.copy()]
        moved[0][at] += step
        moved[1][at] -= step
        actual[at] = (intra64(t, moved[0]) - intra64(t, moved[1])) / (2 * step)
    return actual


def mean(s, t, mask=MASK):
    actual = evaluate([TERM], outputs(t, s, mask))["intra"]
    return actual.total / actual.count


@pytest.mark.parametrize("shape", [(12,), (3, 4)], ids=["classes", "language"])
def test_over_the_batch_value_and_gradient_are_those_of_float64(shape):
    t, s = drawn()
    folded = [x.reshape(*shape, VOCABULARY) for x in (s, t)]
    actual, slopes = jax.jit(jax.value_and_grad(mean))(*folded, MASK.reshape(shape))
    np.testing.assert_allclose(actual, intra64(t, s), rtol=1e-5)
    slopes = slopes.reshape(TOKENS, VOCABULARY)
    np.testing.assert_allclose(slopes, slopes64(t, s), rtol=2e-4, atol=2e-6)


@pytest.mark.slow
def test_parts_of_a_batch_add_up_to_the_whole():
    """With the means of all, as under accumulation."""
    t, s = drawn()
    whole = outputs(t, s)
    sums = statistic_sums([TERM], whole, masks={"intra": whole.batch["mask"]})
    means = {"intra": {name: x / COUNT for name, x in sums["intra"].items()}}
    total = 0.0
    for part in (slice(0, 5), slice(5, 12)):
        part_outputs = outputs(t[part], s[part], MASK[part])
        actual = per_token(
            [TERM],
            part_outputs,
            masks={"intra": part_outputs.batch["mask"]},
            statistics=means,
        )
        total += float(jnp.sum(actual["intra"].values))
    np.testing.assert_allclose(total / COUNT, intra64(t, s), rtol=1e-5)


def test_over_the_vocabulary_an_affine_map_of_the_probabilities_is_free():
    """q = (p + 1/V) / 2 has the teacher's relations, and half of its sureness."""
    p = softmax(drawn()[0], axis=-1)
    q = (p + 1 / VOCABULARY) / 2
    loss = losses.InterClassCorrelation()
    actual = jax.jit(lambda t, s: loss(outputs(t, s)))(np.log(p), np.log(q))
    np.testing.assert_allclose(actual, 0.0, atol=1e-6)


@pytest.mark.parametrize(
    "loss", [losses.InterClassCorrelation(), losses.IntraClassCorrelation()]
)
def test_what_is_constant_correlates_with_nothing_and_has_a_finite_gradient(loss):
    t, _ = drawn()
    term = losses.LossTerm(name="term", loss=loss)

    def mean(s):
        actual = evaluate([term], outputs(t, s))["term"]
        return actual.total / actual.count

    actual, slopes = jax.jit(jax.value_and_grad(mean))(jnp.zeros((TOKENS, VOCABULARY)))
    np.testing.assert_allclose(actual, 1.0, atol=1e-3)
    assert np.all(np.isfinite(slopes))
