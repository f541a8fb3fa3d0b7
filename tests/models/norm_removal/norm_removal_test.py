"""Norms that become linear: the norm before, an affine map after, by their schedule."""

import functools

import numpy as np
import pytest
from flax import nnx

from models import NormRemoval, Transformer
from models.norm_removal.fading import FadingNorm, UntilStep
from models.norms import LayerNorm
from tests.models.states import SMALL, random_module


def test_a_norm_is_itself_until_its_step_and_affine_from_then_on():
    draw = np.random.default_rng(0)
    x, y = draw.normal(1.0, 3.0, (2, 5, 6)).astype(np.float32)
    norm = random_module(LayerNorm, dim=6)
    fading = FadingNorm(norm, step=2, rate=0.25)
    np.testing.assert_allclose(fading(x), norm(x), atol=1e-5)

    rule, state = UntilStep(2, 0.25), np.float32([1.0, 0.0])
    for spread in (4.0, 8.0, 100.0):  # the third comes after the switch
        state = np.asarray(rule(state, np.float32([spread, 0.0])))
    np.testing.assert_allclose(state, [5.0, 3.0])
    fading.divisor[...] = state
    expected = (x - x.mean(-1, keepdims=True)) / 5.0 + 1.0  # scale and bias are one
    np.testing.assert_allclose(fading(x), expected, atol=1e-5)
    between = 0.25 * fading(x) + 0.75 * fading(y)
    np.testing.assert_allclose(fading(0.25 * x + 0.75 * y), between, atol=1e-5)
    np.testing.assert_allclose(fading.observed(x)[0], x.std(-1).mean(), rtol=1e-4)


def test_norms_turn_in_their_order_and_other_models_are_refused():
    make = functools.partial(Transformer, **SMALL)
    removal = functools.partial(NormRemoval, first=20, gap=3)
    model = nnx.eval_shape(lambda: removal(model=make, rngs=nnx.Rngs(0)))
    steps = [(b.mlp_norm.step, b.attention_norm.step) for b in model.blocks]
    assert (*steps, model.norm.step) == ((20, 26), (23, 29), 32)
    stacked = functools.partial(make, layers="stacked")
    with pytest.raises(ValueError, match="of layers='separate'"):
        nnx.eval_shape(lambda: removal(model=stacked, rngs=nnx.Rngs(0)))
