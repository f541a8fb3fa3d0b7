"""Position-wise functions over blocks of tokens: the same results, and what is kept."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.kernels import token_blocks
from models.mlp import GatedMLP
from runner.head import flops
from tests.models.states import random_module

BATCH, LENGTH, DIM, WIDTH = 2, 12, 6, 10


def gradients(over, x, layer):
    """Value and gradients of a sum of the layer, run by `over`."""

    def total(layer, x):
        return jnp.sum(jnp.sin(over(lambda x: x + layer(x)[0], x)))

    return jax.value_and_grad(total, argnums=(0, 1))(layer, x)


def at_once(fn, x):
    return fn(x)


def problem():
    layer = random_module(GatedMLP, dim=DIM, hidden_dim=WIDTH)
    return jax.random.normal(jax.random.key(0), (BATCH, LENGTH, DIM)), layer


def test_a_block_divides_the_tokens():
    assert token_blocks.size(8192) == 1024
    assert token_blocks.size(3 * 700) == 700
    assert token_blocks.size(4099) == 4099  # a prime: all at once


def test_blocks_change_neither_values_nor_gradients(monkeypatch):
    monkeypatch.setattr(token_blocks, "LARGEST", 8)
    monkeypatch.setattr(token_blocks, "SMALLEST", 2)

    @jax.jit
    def run(x, layer):
        forms = (token_blocks.over_tokens, at_once)
        return [gradients(over, x, layer) for over in forms]

    blocks, whole = run(*problem())
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, blocks, whole)


def test_one_product_of_an_mlp_is_made_again(monkeypatch):
    monkeypatch.setattr(token_blocks, "LARGEST", 8)
    monkeypatch.setattr(token_blocks, "SMALLEST", 2)
    product = 2 * BATCH * LENGTH * DIM * WIDTH
    x, layer = problem()
    for over, products in ((at_once, 9), (token_blocks.over_tokens, 10)):
        run = functools.partial(gradients, over, layer=layer)
        assert flops.matmul_flops(run, x) == products * product


_STEP = """
import os
from runner.machine import schedule
schedule.prefer_memory(os.environ)
from tests.benchmarks import long_rows_bench
print(*(long_rows_bench.temporaries(length) for length in (4096, 8192)))
"""


@pytest.mark.slow
def test_a_step_over_one_row_of_8192_tokens_takes_400_mib():
    root = Path(__file__).resolve().parents[3]
    clean = {n: v for n, v in os.environ.items() if n != "XLA_FLAGS"}
    done = subprocess.run(  # as the runner starts: with flags of its own
        [sys.executable, "-c", _STEP],
        env={**clean, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        check=True,
        text=True,
    )
    half, whole = map(float, done.stdout.split())
    assert whole <= 400  # MiB; 942 before
    assert whole <= 2.1 * half
