"""What blocks read, hold and cost; attention_kernels_test.py has what they compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import block, masks, sharding
from models.kernels import blocked_attention, token_blocks
from models.kernels.packing import Packing
from runner.head import flops
from tests.models.inputs import batch, mesh_of
from tests.models.states import transformer

HEADS, HEAD_DIM, BLOCK = 4, 6, 4


def projections(length, rows=1):
    shape = (4, rows, length, HEADS, HEAD_DIM)
    draw = np.random.default_rng(0).standard_normal(shape, np.float32)
    return tuple(map(jnp.asarray, draw))


@functools.partial(jax.jit, static_argnames=("window", "block"))
def packing_of(ids, window, block):
    return Packing.of(ids, window, block=block)


def packing(ids, window=None, block=BLOCK):
    return packing_of(np.int32(ids), window, block)


def test_blocks_that_no_query_may_see_are_not_read():
    one = np.zeros((2, 16), int)
    np.testing.assert_array_equal(packing(one).first, [[0, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(packing(one, window=4).first, [[0, 0, 1, 2]] * 2)
    np.testing.assert_array_equal(packing(one, window=6).first, [[0, 0, 0, 1]] * 2)
    # Documents of a block each; of two blocks each in one row of the two; padding.
    apart = np.repeat(np.arange(4), 4)
    np.testing.assert_array_equal(packing(apart[None]).first, [[0, 1, 2, 3]])
    both = np.stack([apart, apart // 2])
    np.testing.assert_array_equal(packing(both).first, [[0, 1, 2, 3], [0, 0, 2, 2]])
    padded = np.where(np.arange(16) < 8, 1, 0)
    np.testing.assert_array_equal(packing(padded[None]).first, [[0, 0, 2, 2]])
    # Padding that shares a block with the last document is behind the others, too.
    ends = np.array([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 0, 0])
    np.testing.assert_array_equal(packing(ends[None]).first, [[0, 1, 2, 3]])


def compiled(length):
    """The gradient of attention over one row, compiled in blocks of 32."""
    *inputs, cotangent = projections(length)
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
    blocks = masks.Kernel("blocks", BLOCK)
    monkeypatch.setattr(masks, "kernel", lambda *_: blocks)
    assert "blocks of 4" in model.trunk_form(11)

    def sharded(rows):
        with sharding.use(mesh_of(data=2, tensor=2)):
            return run(rows)

    jax.tree.map(close, jax.jit(sharded)(rows), whole)

    # Layers a block of 11 of the 44 tokens at a time.
    monkeypatch.setattr(block, "LONG", 0)
    monkeypatch.setattr(token_blocks, "LARGEST", 11)
    monkeypatch.setattr(token_blocks, "SMALLEST", 11)
    of_layers = functools.partial(run)  # traced anew
    assert "f32[4,1,11,16]" in str(jax.make_jaxpr(of_layers)(rows))
    jax.tree.map(close, jax.jit(of_layers)(rows), whole)
