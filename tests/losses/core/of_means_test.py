"""A function of global means: its value, and the gradient of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses.core.term_values import evaluate


class Spread(losses.OfMeans):
    """`log(1 + Σ_d var_d) + mean_0³`, of what a token's hidden state is."""

    needs = frozenset({"hidden"})

    def statistics(self, outputs):
        x = outputs.intermediates["hidden"]
        return {"first": x, "second": jnp.square(x)}

    def of_means(self, means):
        variance = means["second"] - jnp.square(means["first"])
        return jnp.log1p(jnp.sum(variance)) + means["first"][0] ** 3


class Contracted(Spread):
    """The same, its sums and its linear form its own."""

    def statistics(self, outputs):
        raise AssertionError("never asked for")

    def statistic_sums(self, outputs, tokens):
        x = outputs.intermediates["hidden"]
        return {
            "first": jnp.einsum("bt,btd->d", tokens, x),
            "second": jnp.einsum("bt,btd,btd->d", tokens, x, x),
        }

    def deviation(self, outputs, slopes):
        x = outputs.intermediates["hidden"]
        first, second = outputs.statistics["first"], outputs.statistics["second"]
        return (
            x @ slopes["first"]
            + jnp.square(x) @ slopes["second"]
            - first @ slopes["first"]
            - second @ slopes["second"]
        )


TOKENS, WIDTH = (3, 5), 4
MASK = np.random.default_rng(1).random(TOKENS) < 0.6


def outputs(hidden):
    batch = {"targets": np.zeros(TOKENS, np.int32), "mask": jnp.asarray(MASK)}
    logits = np.zeros((*TOKENS, 0), np.float32)
    return losses.FullOutputs(
        batch=batch, logits=logits, intermediates={"hidden": hidden}
    )


def drawn():
    draw = np.random.default_rng(0)
    return jnp.asarray(np.float32(draw.normal(size=(*TOKENS, WIDTH))))


def of_the_whole(hidden):
    """`f` of plain means over the counted tokens."""
    counted = hidden[jnp.asarray(np.flatnonzero(MASK) // 5), np.flatnonzero(MASK) % 5]
    variance = jnp.mean(jnp.square(counted), 0) - jnp.square(jnp.mean(counted, 0))
    return jnp.log1p(jnp.sum(variance)) + jnp.mean(counted, 0)[0] ** 3


@pytest.mark.parametrize("kind", [Spread, Contracted])
def test_the_mean_and_its_gradient_are_those_of_the_function_of_the_means(kind):
    term = losses.LossTerm(name="spread", loss=kind())

    def mean(hidden):
        found = evaluate([term], outputs(hidden))["spread"]
        return found.total / found.count

    found, gradient = jax.jit(jax.value_and_grad(mean))(drawn())
    expected, expected_gradient = jax.jit(jax.value_and_grad(of_the_whole))(drawn())
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-7)
