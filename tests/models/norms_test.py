import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.norms import LayerNorm, RMSNorm


def norm(**fields):
    return RMSNorm(dim=6, **fields, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_it_is_the_formula(offset):
    draw = np.random.default_rng(0)
    x, scale = draw.normal(size=(3, 6)), draw.normal(size=6)
    layer = norm(eps=0.1, offset=offset)
    layer.scale[...] = jnp.asarray(scale, jnp.float32)
    size = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(
        layer(jnp.asarray(x, jnp.float32)), x / size * (scale + offset), rtol=1e-5
    )


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_layer_norm_is_the_formula(offset):
    draw = np.random.default_rng(0)
    x, scale, bias = draw.normal(size=(3, 6)), *draw.normal(size=(2, 6))
    layer = LayerNorm(dim=6, eps=0.1, offset=offset, rngs=nnx.Rngs(0))
    start = layer(jnp.asarray(x, jnp.float32))
    layer.scale[...] = jnp.asarray(scale, jnp.float32)
    assert layer.bias is not None
    layer.bias[...] = jnp.asarray(bias, jnp.float32)
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(start, normed, rtol=1e-5)
    np.testing.assert_allclose(
        layer(jnp.asarray(x, jnp.float32)),
        normed * (scale + offset) + bias,
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_it_starts_as_the_plain_norm(offset):
    x = jnp.asarray([[3.0, -3.0, 3.0, 3.0, -3.0, 3.0]])
    np.testing.assert_allclose(norm(offset=offset)(x), x / 3, rtol=1e-5)


def test_squares_of_float16_do_not_overflow():
    x = jnp.full((1, 6), 1e3, jnp.float16)
    y = norm()(x)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y.astype(jnp.float32), np.ones((1, 6)), rtol=1e-2)


def test_a_wrong_eps_is_named_with_its_value():
    with pytest.raises(ValueError, match="eps must be positive, got 0"):
        norm(eps=0)


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_a_single_row_is_as_one_of_many(kind):
    layer = kind(dim=6, rngs=nnx.Rngs(0))
    rows = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)

    @jax.jit
    def value_and_gradient(x):
        return layer(x), jax.grad(lambda x: jnp.sum(jnp.sin(layer(x))))(x)

    value, gradient = value_and_gradient(rows)
    alone, its_gradient = value_and_gradient(rows[:1])
    assert alone.shape == (1, 3, 6)
    np.testing.assert_allclose(alone[0], value[0], rtol=1e-6)
    np.testing.assert_allclose(its_gradient[0], gradient[0], atol=1e-6)
