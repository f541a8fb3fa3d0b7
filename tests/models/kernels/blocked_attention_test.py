"""Against whole rows, which `tests/models/attention_test.py` holds to the textbook."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import masks, sharding
from models.attention import Attention
from models.kernels import blocked_attention
from models.masks import packed_mask
from runner.head import flops
from tests.models.inputs import batch, mesh_of
from tests.models.states import random_module, transformer

HEADS, HEAD_DIM, BLOCK = 4, 6, 4
# Documents that end within a block, at its end, and over several; a row that pads; ids
# that no packing makes: out of order, and in several places.
IDS = np.array([[1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3], [7, 7, 7, 7, 5, 5, 7, 5, 0, 0, 0]])


def layer(kv_heads, soft_cap, sinks=False):
    return random_module(
        Attention,
        dim=8,
        num_heads=HEADS,
        num_kv_heads=kv_heads,
        head_dim=HEAD_DIM,
        sinks=sinks,
        norm_eps=1e-6,
        scale=0.7,
        soft_cap=soft_cap,
        init=jax.nn.initializers.normal(0.5),
        output_scale=1.0,
        dtype="float32",
        param_dtype="float32",
    )


def projections(length, kv_heads=HEADS, rows=2):
    draw = jax.random.normal(
        jax.random.key(0), (rows, length, 2 * HEADS + 2 * kv_heads, HEAD_DIM)
    )
    places = [HEADS, HEADS + kv_heads, HEADS + 2 * kv_heads]
    return tuple(jnp.split(draw, places, axis=2))


def packing(ids, window=None, block=BLOCK):
    return blocked_attention.packing(jnp.asarray(ids, jnp.int32), window, block=block)


@pytest.mark.parametrize(
    ("window", "kv_heads", "soft_cap"), [(None, 4, None), (5, 2, 1.5), (1, 1, None)]
)
def test_values_and_gradients_are_those_of_whole_rows(window, kv_heads, soft_cap):
    *inputs, cotangent = projections(IDS.shape[1], kv_heads)
    module = layer(kv_heads, soft_cap)

    @jax.jit
    def run(inputs):
        results = []
        for mask in (packing(IDS, window), packed_mask(jnp.asarray(IDS), window)):
            mixed, pullback = jax.vjp(
                lambda q, k, v, m=mask: module.attend(q, k, v, m), *inputs
            )
            results.append((mixed, pullback(cotangent)))
        return results

    blocked, whole = run(tuple(inputs))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-6),
        blocked,
        whole,
    )


def test_sinks_have_the_values_and_gradients_of_whole_rows():
    *inputs, cotangent = projections(IDS.shape[1], kv_heads=2)
    graph, _ = nnx.split(module := layer(2, None, sinks=True))
    params = nnx.to_pure_dict(nnx.state(module))
    params["sinks"] = jnp.array([-9.0, 0.0, 0.5, 3.0])

    @jax.jit
    def run(params, inputs):
        results = []
        for mask in (packing(IDS), packed_mask(jnp.asarray(IDS))):

            def attend(params, inputs, mask=mask):
                return nnx.merge(graph, params).attend(*inputs, mask)

            mixed, pullback = jax.vjp(attend, params, inputs)
            d_params, d_inputs = pullback(cotangent)
            results.append((mixed, d_params["sinks"], d_inputs))
        return results

    blocked, whole = run(params, tuple(inputs))
    assert np.abs(whole[1]).min() > 1e-6
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-6),
        blocked,
        whole,
    )


def test_blocks_that_no_query_may_see_are_not_read():
    one = np.zeros((2, 16), int)
    np.testing.assert_array_equal(packing(one).first, [0, 0, 0, 0])
    np.testing.assert_array_equal(packing(one, window=4).first, [0, 0, 1, 2])
    np.testing.assert_array_equal(packing(one, window=6).first, [0, 0, 0, 1])
    # Documents of a block each; of two blocks each in one row of the two; padding.
    apart = np.repeat(np.arange(4), 4)
    np.testing.assert_array_equal(packing(apart[None]).first, [0, 1, 2, 3])
    both = np.stack([apart, apart // 2])
    np.testing.assert_array_equal(packing(both).first, [0, 0, 2, 2])
    padded = np.where(np.arange(16) < 8, 1, 0)
    np.testing.assert_array_equal(packing(padded[None]).first, [0, 0, 2, 2])


def compiled(length):
    """The gradient of attention over one row, compiled in blocks of 32."""
    *inputs, cotangent = projections(length, rows=1)
    mask = packing(np.zeros((1, length), int), block=32)

    def run(*inputs):
        mixed, pullback = jax.vjp(
            lambda q, k, v: blocked_attention.attend(q, k, v, mask), *inputs
        )
        return mixed, pullback(cotangent)

    return jax.jit(run).lower(*inputs).compile(), run, inputs


def test_memory_is_linear_in_the_length_of_a_row():
    temporaries = [
        compiled(length)[0].memory_analysis().temp_size_in_bytes
        for length in (1024, 2048)
    ]
    assert temporaries[1] <= 2.1 * temporaries[0]
    assert temporaries[1] < HEADS * 2048**2  # no scores, of one byte each


def test_the_pairs_of_blocks_are_counted():
    """Two products forward and five backward, of 32 by 32 tokens of each pair."""
    _, run, inputs = compiled(256)
    pairs = 8 * 9 // 2
    assert blocked_attention.pairs(256, None, block=32) == pairs
    expected = 7 * pairs * 2 * 32 * 32 * HEADS * HEAD_DIM
    assert flops.matmul_flops(run, *inputs) == expected
    assert not flops.is_lower_bound(run, *inputs)
    assert blocked_attention.pairs(256, 33, block=32) == 8 + 7
    assert blocked_attention.pairs(256, 34, block=32) == 8 + 7 + 6


@pytest.mark.slow
def test_a_trunk_is_the_same_by_blocks_and_over_a_mesh(monkeypatch):
    model, rows = transformer(), batch([[3, 5, 3], [9], [4, 4], [11]])
    graph, state = nnx.split(model)

    def run(rows):
        def total(state):
            trunk = nnx.merge(graph, state).trunk(
                rows, remat="full", capture=frozenset({"attention"})
            )
            return jnp.sum(jnp.sin(trunk.hidden)), trunk

        (_, trunk), gradients = jax.value_and_grad(total, has_aux=True)(state)
        return trunk, nnx.to_pure_dict(gradients)

    def close(x, y):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)

    whole = jax.jit(run)(rows)
    assert "whole" in model.trunk_form(11)
    monkeypatch.setattr(masks, "block_size", lambda length: BLOCK)
    assert "blocks of 4" in model.trunk_form(11)

    def sharded(rows):
        with sharding.use(mesh_of(data=2, tensor=2)):
            return run(rows)

    jax.tree.map(close, jax.jit(sharded)(rows), whole)
