import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import rope
from models.attention import Attention
from models.masks import packed_mask
from tests.models.inputs import reference_rotation
from tests.models.states import random_module

DIM, HEADS, HEAD_DIM = 8, 4, 6
DEFAULTS = {
    "dim": DIM,
    "num_heads": HEADS,
    "num_kv_heads": 2,
    "head_dim": HEAD_DIM,
    "norm_eps": 1e-6,
    "init": jax.nn.initializers.normal(0.5),
    "output_scale": 1.0,
    "dtype": "float32",
    "param_dtype": "float32",
}
SEGMENTS = np.array([[1, 1, 1, 2, 2], [1, 2, 2, 2, 0]], np.int32)
POSITIONS = np.array([[0, 1, 2, 0, 1], [0, 0, 1, 2, 0]], np.int32)


def attention(**fields):
    return random_module(Attention, **(DEFAULTS | fields))


@jax.jit
def run(layer, x):
    tables = rope.angles(jnp.asarray(POSITIONS), HEAD_DIM, base=100.0)
    return layer(x, tables, packed_mask(jnp.asarray(SEGMENTS)))


def reference(layer, x, soft_cap=None):
    """Token by token and head by head, in float64."""
    x = np.asarray(x, np.float64)

    def heads(kernel, bias, norm):
        y = np.einsum("btd,dhk->bthk", x, np.asarray(kernel[...], np.float64))
        if bias is not None:
            y = y + np.asarray(bias[...])
        if norm is not None:
            y = y / np.sqrt(np.mean(y**2, axis=-1, keepdims=True) + norm.eps)
            y = y * np.asarray(norm.scale[...])
        return y

    q = reference_rotation(
        heads(layer.query, layer.query_bias, layer.query_norm),
        POSITIONS,
        100.0,
        "split",
    )
    k = reference_rotation(
        heads(layer.key, layer.key_bias, layer.key_norm), POSITIONS, 100.0, "split"
    )
    v = heads(layer.value, layer.value_bias, None)
    mixed = np.zeros((*x.shape[:2], HEADS, HEAD_DIM))
    for b, t, h in np.ndindex(*x.shape[:2], HEADS):
        visible = [s for s in range(t + 1) if SEGMENTS[b, s] == SEGMENTS[b, t]]
        group = h * k.shape[2] // HEADS
        scores = k[b, visible, group] @ q[b, t, h] / np.sqrt(HEAD_DIM)
        if soft_cap is not None:
            scores = soft_cap * np.tanh(scores / soft_cap)
        weights = np.exp(scores) / np.exp(scores).sum()
        mixed[b, t, h] = weights @ v[b, visible, group]
    return np.einsum("bthk,hkd->btd", mixed, np.asarray(layer.output[...], np.float64))


def perturbed(layer):
    """Biases and norm scales away from the values they start with."""
    draw = np.random.default_rng(1)
    graph, state = nnx.split(layer)
    values = jax.tree.map(
        lambda p: jnp.asarray(np.asarray(p) + np.float32(draw.normal(0, 0.3, p.shape))),
        state,
    )
    return nnx.merge(graph, values)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_kv_heads": 4, "bias": True},
        {"num_kv_heads": 1, "qk_norm": True},
        {"soft_cap": 0.5},
    ],
    ids=str,
)
def test_it_is_the_formula(fields):
    layer = perturbed(attention(**fields))
    x = jax.random.normal(jax.random.key(0), (2, 5, DIM))
    expected = reference(layer, x, soft_cap=fields.get("soft_cap"))
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)


def test_it_agrees_with_the_library():
    layer = attention()
    draw = jax.random.normal(jax.random.key(0), (2, 5, 8, HEAD_DIM))
    query, key, value = draw[:, :, :4], draw[:, :, 4:6], draw[:, :, 6:]
    mask = packed_mask(jnp.asarray(SEGMENTS))
    np.testing.assert_allclose(
        jax.jit(layer.attend)(query, key, value, mask),
        jax.jit(jax.nn.dot_product_attention)(query, key, value, mask=mask[:, None]),
        rtol=1e-5,
        atol=1e-6,
    )


def test_captured_arrays_are_those_of_the_attention():
    """Scores by hand from the captured queries and keys, softmax times the values."""
    layer = perturbed(attention(soft_cap=0.7))
    x = jax.random.normal(jax.random.key(0), (2, 5, DIM))

    @jax.jit
    def every_way(x):
        tables = rope.angles(jnp.asarray(POSITIONS), HEAD_DIM, base=100.0)
        mask = packed_mask(jnp.asarray(SEGMENTS))
        projections = layer.project(x, tables)
        assert layer.captured(frozenset(), projections, mask) == {}
        captured = layer.captured(layer.intermediates, projections, mask)
        return mask, captured, layer(x, tables, mask)

    mask, captured, expected = every_way(x)
    assert captured.keys() == layer.intermediates
    q, k, v = (
        np.asarray(captured[n], np.float64) for n in ("queries", "keys", "values")
    )
    k, v = (np.repeat(y, HEADS // y.shape[2], axis=2) for y in (k, v))
    scores = 0.7 * np.tanh(np.einsum("bthd,bshd->bths", q, k) / np.sqrt(HEAD_DIM) / 0.7)
    scores = np.where(np.asarray(mask)[:, :, None], scores, -np.inf)
    np.testing.assert_allclose(captured["attention"], scores, rtol=1e-5, atol=1e-6)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        layer.merge(jnp.asarray(np.float32(np.einsum("bths,bshd->bthd", weights, v)))),
        expected,
        rtol=1e-4,
        atol=1e-5,
    )


def test_grouped_queries_are_full_attention_with_repeated_keys():
    grouped, full = attention(num_kv_heads=2), attention(num_kv_heads=4)
    full.query[...], full.output[...] = grouped.query[...], grouped.output[...]
    full.key[...] = jnp.repeat(grouped.key[...], 2, axis=1)
    full.value[...] = jnp.repeat(grouped.value[...], 2, axis=1)
    x = jax.random.normal(jax.random.key(0), (2, 5, DIM))
    np.testing.assert_allclose(run(grouped, x), run(full, x), rtol=1e-5, atol=1e-5)


def test_the_mask_is_causal_within_a_document():
    expected = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    np.testing.assert_array_equal(packed_mask(jnp.asarray(SEGMENTS))[0], expected)


def test_a_window_limits_the_mask():
    expected = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    mask = packed_mask(jnp.asarray(SEGMENTS), window=2)
    np.testing.assert_array_equal(mask[0], expected)


def test_sinks_take_a_share_of_each_softmax():
    layer = attention(sinks=True)
    layer.sinks[...] = jnp.array([-1.0, 0.0, 2.0, 40.0])
    draw = jax.random.normal(jax.random.key(0), (1, 3, HEADS, HEAD_DIM))

    @jax.jit
    def attended(layer, draw):
        _, key, value = layer.project(jnp.ones((1, 3, DIM)), None)
        return layer.attend(draw, key, value, None), key, value

    mixed, key, value = attended(layer, draw)
    q, k, v = (np.asarray(x, np.float64) for x in (draw, key, value))
    for head, sink in enumerate([-1.0, 0.0, 2.0, 40.0]):
        scores = q[0, :, head] @ k[0, :, head // 2].T / np.sqrt(HEAD_DIM)
        weights = np.exp(scores)
        weights /= weights.sum(axis=1, keepdims=True) + np.exp(sink)
        expected = weights @ v[0, :, head // 2]
        np.testing.assert_allclose(mixed[0, :, head], expected, rtol=1e-5, atol=1e-8)


def test_a_bias_of_the_output_is_added():
    plain, biased = attention(), attention(output_bias=True)
    mixed = jax.random.normal(jax.random.key(0), (1, 3, HEADS, HEAD_DIM))
    biased.output_bias[...] = jnp.arange(float(DIM))
    expected = plain.merge(mixed) + jnp.arange(float(DIM))[None, None]
    np.testing.assert_allclose(biased.merge(mixed), expected, rtol=1e-6)


def test_layer_norms_of_queries_and_keys_leave_nothing_of_their_size():
    """LayerNorm without a bias of each head, one scale for all heads."""
    layer = attention(qk_norm="layer", norm_eps=1e-9)
    scale = np.float32([1, 2, 3, 4, 5, 6])
    layer.query_norm.scale[...] = scale
    x = np.random.default_rng(3).normal(size=(1, 5, DIM)).astype(np.float32)
    projected = jax.jit(lambda layer: layer.project(x, None)[0])
    query = np.float64(projected(layer))
    raw = np.einsum("btd,dhk->bthk", x, np.float64(layer.query[...]))
    centred = raw - raw.mean(-1, keepdims=True)
    expected = centred / raw.std(-1, keepdims=True) * scale
    np.testing.assert_allclose(query, expected, rtol=1e-4, atol=1e-4)
    layer.query[...] = 100.0 * layer.query[...]
    np.testing.assert_allclose(projected(layer), query, atol=1e-3)
