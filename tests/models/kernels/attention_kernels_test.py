"""Kernels of attention against the textbook in float64, values and gradients.

Kernels of other devices run here as XLA operations; that they lower for their own is
tested too. Nothing here shows that they run there.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import masks, sharding
from models.kernels import blocked_attention, splash_attention
from models.kernels.packing import Packing
from tests.models.inputs import mesh_of
from tests.models.kernels.attention_cases import (
    CASES,
    IDS,
    SINKS,
    check,
    gradient,
    inputs,
    shapes,
)


def blocks(q, k, v, *, window=None, soft_cap=None, sinks=None):
    mask = Packing.of(
        jnp.asarray(IDS, jnp.int32), window, block=4, by_row=soft_cap is None
    )
    return blocked_attention.attend(q, k, v, mask, soft_cap=soft_cap, sinks=sinks)


def splash(q, k, v, **fields):
    ids = jnp.asarray(IDS, jnp.int32)
    return splash_attention.attend(q, k, v, ids, interpret=True, **fields)


def test_blocks_are_the_textbook():
    check(blocks, CASES)


@pytest.mark.slow
def test_splash_attention_is_the_textbook():
    with jax.numpy_rank_promotion("allow"):
        check(splash, CASES)


@pytest.mark.slow
@pytest.mark.parametrize("kv_heads", [2, 1])
def test_splash_attention_is_the_same_over_a_mesh(kv_heads):
    query, key, value, _ = inputs(kv_heads)
    mask = masks.Fused(jnp.asarray(IDS, jnp.int32), 5, "splash")

    def run(arrays):
        q, k, v = arrays
        return masks.attend(q, k, v, mask, sinks=jnp.asarray(SINKS, jnp.float32))

    def parted(arrays):
        with sharding.use(mesh_of(data=2, tensor=2)):
            return run(arrays)

    arrays = query, key, value
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(
            jax.jit(parted)(arrays), jax.jit(run)(arrays), rtol=1e-5, atol=2e-6
        )


@pytest.mark.parametrize(("dtype", "head_dim"), [("float32", 48), ("bfloat16", 128)])
def test_splash_attention_lowers_for_a_tpu(dtype, head_dim):
    attend = functools.partial(splash_attention.attend, window=100, soft_cap=50.0)
    with jax.numpy_rank_promotion("allow"):
        traced = gradient(attend).trace(*shapes(dtype, head_dim))
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") == 3  # forward; queries; keys and values
