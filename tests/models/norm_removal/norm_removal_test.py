"""Norms that become linear: the norm before, an affine map after, by their schedule."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from models import NormRemoval, Transformer
from models.norm_removal import places
from models.norm_removal.fading import Apart, FadingNorm, UntilStep
from models.norms import LayerNorm
from tests.models.states import SMALL, random_module


def test_a_norm_is_itself_until_its_step_and_affine_from_then_on():
    draw = np.random.default_rng(0)
    x, y = draw.normal(1.0, 3.0, (2, 5, 6)).astype(np.float32)
    norm = random_module(LayerNorm, dim=6)
    fading = FadingNorm(norm, step=2, rate=0.25, apart=None)
    np.testing.assert_allclose(fading(x), norm(x), atol=1e-5)

    rule, state = jax.jit(UntilStep(2, 0.25)), np.float32([1.0, 0.0])
    for spread in (4.0, 8.0, 100.0):  # the third comes after the switch
        state = np.asarray(rule(state, np.float32([spread, 0.0])))
    np.testing.assert_allclose(state, [5.0, 3.0])
    fading.divisor[...] = state
    expected = (x - x.mean(-1, keepdims=True)) / 5.0 + 1.0  # scale and bias are one
    np.testing.assert_allclose(fading(x), expected, atol=1e-5)
    between = 0.25 * fading(x) + 0.75 * fading(y)
    np.testing.assert_allclose(fading(0.25 * x + 0.75 * y), between, atol=1e-5)
    np.testing.assert_allclose(fading.observed(x)[0], x.std(-1).mean(), rtol=1e-4)


ROWS = {
    "positions": np.int32([[0, 1, 2, 0, 1, 0]]),
    "segment_ids": np.int32([[1, 1, 1, 2, 2, 0]]),  # the last is padding
    "tokens": np.int32([[5, 6, 9, 9, 7, 0]]),  # 9 ends a text; one is first besides
}


def test_first_positions_and_ends_have_a_constant_of_their_own_for_a_while():
    x = np.random.default_rng(0).normal(1.0, 3.0, (1, 6, 4)).astype(np.float32)
    x[0, [0, 3]] *= 9.0
    norm = random_module(LayerNorm, dim=4)
    fading = FadingNorm(norm, step=2, rate=0.25, apart=Apart(first=7, end=4))

    @nnx.jit
    def run(fading):
        with places.of(ROWS, 9):
            return fading.observed(x), fading(x)

    (other, _, first), _ = run(fading)
    spread = x.std(-1)[0]
    np.testing.assert_allclose(other, spread[[1, 2, 4]].mean(), rtol=1e-4)
    np.testing.assert_allclose(first, spread[[0, 3]].mean(), rtol=1e-4)
    state = jax.jit(UntilStep(2, 0.25))(np.float32([1, 1, 5]), np.float32([3, 0, 9]))
    np.testing.assert_allclose(state, [1.5, 2.0, 6.0])

    centred = x - x.mean(-1, keepdims=True)
    for steps, own in ((3, [0, 2, 3]), (4, [0, 3]), (7, [])):
        fading.divisor[...] = np.float32([2.0, steps, 8.0])
        divisor = np.full((6, 1), 2.0)
        divisor[own] = 8.0
        np.testing.assert_allclose(run(fading)[1], centred / divisor + 1.0, atol=1e-5)


@pytest.mark.slow  # compiles a transformer
def test_a_trunk_tells_its_norms_the_places():
    make = functools.partial(Transformer, **SMALL)
    fields = {"model": make, "first": 0, "gap": 0}
    plain = random_module(NormRemoval, **fields)
    model = random_module(NormRemoval, **fields, first_apart=9, end_apart=2, end=9)
    trunk = nnx.jit(lambda model: model.trunk(ROWS, remat="full").hidden)
    norm = model.blocks[0].attention_norm
    assert (norm.apart, model.norm.apart) == (Apart(9, 2), Apart(9, 0))
    same = trunk(model)  # both constants are one
    np.testing.assert_allclose(same, trunk(plain), atol=1e-5)
    norm.divisor[...] = np.float32([1.0, 1.0, 2.0])
    assert np.abs(trunk(model) - same)[0, :5].max() > 0.1
    with pytest.raises(ValueError, match="end_apart must be at most first_apart"):
        nnx.eval_shape(lambda: NormRemoval(**fields, end_apart=2, rngs=nnx.Rngs(0)))


def test_norms_turn_in_their_order_and_other_models_are_refused():
    make = functools.partial(Transformer, **SMALL)
    removal = functools.partial(NormRemoval, first=20, gap=3)
    model = nnx.eval_shape(lambda: removal(model=make, rngs=nnx.Rngs(0)))
    steps = [(b.mlp_norm.step, b.attention_norm.step) for b in model.blocks]
    assert (*steps, model.norm.step) == ((20, 26), (23, 29), 32)
    stacked = functools.partial(make, layers="stacked")
    with pytest.raises(ValueError, match="of layers='separate'"):
        nnx.eval_shape(lambda: removal(model=stacked, rngs=nnx.Rngs(0)))
