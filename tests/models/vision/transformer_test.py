"""The vision transformer against plain einsum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import MoE, VisionTransformer, sharding
from models.vision.transformer import patches, sines
from tests.models.inputs import mesh_of
from tests.models.states import random_module

FIELDS = {
    "num_classes": 5,
    "image_size": (4, 6),
    "channels": 3,
    "patch_size": 2,
    "dim": 8,
    "num_layers": 2,
    "num_heads": 2,
}
KINDS = [
    {},
    {"pool": "token"},
    {"positions": "sincos"},
    {"positions": "sincos", "pool": "token"},
]


def images(count=8):
    draw = np.random.default_rng(0)
    return {"images": jnp.asarray(np.float32(draw.random((count, 4, 6, 3))))}


def rms(x):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def reference_attention(layer, x):
    query, key, value = (
        np.einsum("btd,dhk->bhtk", x, np.asarray(kernel[...], np.float64))
        for kernel in (layer.query, layer.key, layer.value)
    )
    scores = np.exp(query @ np.swapaxes(key, 2, 3) / np.sqrt(query.shape[-1]))
    mixed = scores / scores.sum(-1, keepdims=True) @ value
    return np.einsum("bhtk,hkd->btd", mixed, np.asarray(layer.output[...]))


def reference_mlp(layer, x):
    gate, up, down = (np.asarray(k[...]) for k in (layer.gate, layer.up, layer.down))
    gated = x @ gate
    return (gated / (1 + np.exp(-gated)) * (x @ up)) @ down


def reference(model, x):
    """Logits and each block's pooled output, float64, patch by patch."""
    x = (np.asarray(x, np.float64) - 0.5) / 0.5
    tiles = [
        x[:, r : r + 2, q : q + 2].reshape(len(x), -1)
        for r in (0, 2)
        for q in (0, 2, 4)
    ]
    x = np.stack(tiles, axis=1) @ np.asarray(model.projection[...], np.float64)
    places = sines((2, 3), 8) if model.positions is None else model.positions[...]
    if model.token is not None:
        first = np.broadcast_to(np.asarray(model.token[...]), (len(x), 1, 8))
        x = np.concatenate([first, x], axis=1)
        if model.positions is None:
            places = np.concatenate([np.zeros((1, 8)), places])
    x = x + np.asarray(places, np.float64)

    def pooled(x):
        return x.mean(axis=1) if model.pool == "mean" else x[:, 0]

    layers = []
    for block in model.blocks:
        x = x + reference_attention(block.attention, rms(x))
        x = x + reference_mlp(block.mlp, rms(x))
        layers.append(pooled(x))
    return pooled(rms(x)) @ np.asarray(model.output[...], np.float64).T, layers


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_is_the_reference(kind):
    model, batch = random_module(VisionTransformer, **FIELDS, **kind), images()
    trunk = jax.jit(lambda m: m.trunk(batch, capture=m.offers()))(model)
    logits, layers = reference(model, batch["images"])
    assert trunk.hidden.shape[-1] == model.dim
    np.testing.assert_allclose(model.head(trunk.hidden), logits, rtol=1e-4, atol=1e-4)
    assert trunk.intermediates["hidden"].shape == (8, 2, 8)
    for i, expected in enumerate(layers):
        hidden = trunk.intermediates[f"hidden/{i}"]
        np.testing.assert_allclose(hidden, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(trunk.intermediates["hidden"][:, i], hidden)


def test_patches_are_read_row_by_row():
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(
        patches(image, 2)[0],
        [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]],
    )


def test_fixed_positions_agree_with_a_hand_count():
    table = sines((2, 2), 8)  # of the second row, first column: x = 0, y = 1
    rates = np.array([1.0, 0.01])
    expected = np.concatenate([[0, 0, 1, 1], np.sin(rates), np.cos(rates)])
    np.testing.assert_allclose(table[2], expected, rtol=1e-6)


def loss(graph, remat, params, batch):
    model = nnx.merge(graph, params)
    return jnp.sum(jnp.sin(model.head(model.trunk(batch, remat=remat).hidden)))


def placed_gradient(mesh=None, remat="none"):
    """Loss and gradient of the batch, over a mesh or on one device."""
    graph, state = nnx.split(random_module(VisionTransformer, **FIELDS))
    params = nnx.to_pure_dict(state)
    if mesh is not None:
        params = jax.device_put(params, sharding.parameter_shardings(state, mesh))

    def run(params, batch):
        with sharding.use(mesh):
            return jax.value_and_grad(functools.partial(loss, graph, remat))(
                params, batch
            )

    return jax.jit(run)(params, images())


expected_gradient = functools.cache(placed_gradient)


@pytest.mark.parametrize(
    "remat",
    ["full", pytest.param("dots", marks=pytest.mark.slow)],
)
def test_remat_leaves_the_gradient_alone(remat):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, placed_gradient(remat=remat), expected_gradient())


def test_a_mesh_gives_the_gradients_of_one_device():
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(
        close, placed_gradient(mesh_of(data=2, fsdp=2, tensor=2)), expected_gradient()
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_size": 4}, "patch_size must divide image_size, got 4 and 4 x 6"),
        ({"positions": "rope"}, "positions must be one of .* got 'rope'"),
        ({"pool": "max"}, "pool must be one of .* got 'max'"),
        ({"dim": 6, "positions": "sincos"}, "divisible by 4 for 'sincos', got 6"),
        ({"num_heads": 3}, "dim must be divisible by num_heads, got 8 and 3"),
        ({"mlp": functools.partial(MoE, num_experts=2)}, "for every patch"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: VisionTransformer(**(FIELDS | fields), rngs=nnx.Rngs(0)))
