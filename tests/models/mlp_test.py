import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import MLP, GatedMLP
from models.kernels.forward_mode import forward_mode
from models.mlp import gated_width

ERF = np.vectorize(math.erf)
REFERENCES = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_exact": lambda x: x / 2 * (1 + ERF(x / np.sqrt(2))),
}


@pytest.mark.parametrize("activation", REFERENCES)
def test_it_is_the_formula(activation):
    layer = GatedMLP(dim=4, hidden_dim=6, activation=activation, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    gate, up, down = (
        np.asarray(w[...], np.float64) for w in (layer.gate, layer.up, layer.down)
    )
    wide = np.asarray(x, np.float64)
    expected = (REFERENCES[activation](wide @ gate) * (wide @ up)) @ down
    y, intermediates = layer(x)
    assert intermediates == {}
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)


@functools.cache
def gradient_of_layers():
    """Value and gradients of four gated layers over 4,096 tokens, compiled."""
    layers = [GatedMLP(dim=8, hidden_dim=64, rngs=nnx.Rngs(i)) for i in range(4)]
    graphs, params = zip(*map(nnx.split, layers), strict=True)
    x = jax.random.normal(jax.random.key(0), (4096, 8))

    def total(params, x):
        for graph, of_layer in zip(graphs, params, strict=True):
            x = x + nnx.merge(graph, of_layer)(x)[0]
        return jnp.mean(jnp.square(x))

    gradient = jax.value_and_grad(total, argnums=(0, 1))
    return gradient, jax.jit(gradient).lower(params, x).compile(), (params, x)


def test_training_keeps_three_arrays_of_the_inner_width_a_layer():
    """Gate, up and their product; the sigmoid and its product would be five."""
    _, compiled, _ = gradient_of_layers()
    arrays = compiled.memory_analysis().temp_size_in_bytes / (4 * 4096 * 64)
    assert arrays < 19, arrays  # 4 x 3, and some of one layer at a time; else 21.5


def test_its_gradient_is_that_of_autodiff():
    gradient, compiled, inputs = gradient_of_layers()
    plain = jax.jit(gradient)
    with forward_mode(True):  # without a rule of its own
        expected = plain(*inputs)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-8),
        compiled(*inputs),
        expected,
    )


@pytest.mark.parametrize("bias", [True, False])
def test_a_plain_block_is_the_formula(bias):
    layer = MLP(dim=4, hidden_dim=6, bias=bias, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    wide, up, down = (np.asarray(a, np.float64) for a in (x, layer.up, layer.down))
    inner, outer = np.zeros(6), np.zeros(4)
    if layer.up_bias is not None and layer.down_bias is not None:
        inner, outer = np.arange(6) - 2.0, np.arange(4) - 1.0
        layer.up_bias[...] = jnp.asarray(inner, jnp.float32)
        layer.down_bias[...] = jnp.asarray(outer, jnp.float32)
    expected = REFERENCES["gelu"](wide @ up + inner) @ down + outer
    y, intermediates = layer(x)
    assert intermediates == {}
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)
    assert MLP(dim=4, rngs=nnx.Rngs(0)).up.shape == (4, 16)


def test_the_default_width_costs_as_much_as_a_plain_block():
    assert gated_width(384) == 1024
    assert gated_width(256) == 704
    assert 3 * 384 * gated_width(384) == 2 * 384 * 4 * 384


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be positive, got 0"),
        ({"activation": "swish"}, "activation must be one of .* got 'swish'"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        GatedMLP(dim=4, **fields, rngs=nnx.Rngs(0))


def test_outputs_start_smaller_by_their_scale():
    def size(**fields):
        layer = GatedMLP(dim=64, **fields, rngs=nnx.Rngs(0))
        return float(jnp.std(layer.down[...]))

    assert size(output_scale=0.5) == pytest.approx(0.5 * size(), rel=1e-5)
