"""Kernels on a grid, against qwix's, and a model that reads them so."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import LoRA, MoE, Quantized, Transformer
from models.quantized import wrapper
from models.quantized.grid import Grid, straight_through
from runner.checkpoint import tree_paths
from tests.models.inputs import batch
from tests.models.states import SMALL, random_module

QWIX = np.load(Path(__file__).with_name("qwix.npz"))
LOWEST = {"int8": -127, "int4": -7, "fp8": -448}
MOE = functools.partial(MoE, num_experts=3, hidden_dim=8)
MODEL = functools.partial(Transformer, **SMALL, mlp=MOE, layers="stacked")


def test_values_are_those_of_qwix_and_the_same_compiled():
    kernel = jnp.asarray(QWIX["kernel"])  # a product sums over its first axis
    for kind, block in (("int8", 32), ("int4", None), ("fp8", None)):
        grid = Grid(kind, block, "float32", 1, 2)
        numbers, scales = (
            QWIX[f"{kind}/{block or 64}/{part}"] for part in ("numbers", "scales")
        )
        scales = np.repeat(scales, 64 // len(scales), axis=0)
        expected = np.maximum(numbers, LOWEST[kind]) * scales
        nearest = grid.nearest(kernel)
        np.testing.assert_allclose(nearest, expected, rtol=1e-6)
        if kind == "int8":
            np.testing.assert_array_equal(jax.jit(grid.nearest)(kernel), nearest)
    read, back = jax.vjp(lambda w: straight_through(w, grid), kernel)
    np.testing.assert_array_equal(read, nearest)
    np.testing.assert_array_equal(back(kernel)[0], kernel)


def test_a_kernel_is_read_on_its_grid_and_kept_as_it_is():
    dense = functools.partial(Transformer, **(SMALL | {"num_layers": 1}))
    make = functools.partial(Quantized, model=dense, weights="fp8", block=8)
    model: Any = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    up = model.blocks[0].mlp.up
    stored = np.random.default_rng(0).normal(size=up.shape).astype(np.float32)
    up.set_value(jnp.asarray(stored))
    grid = Grid("fp8", 8, "float32", 1, 1)
    np.testing.assert_array_equal(up[...], grid.nearest(stored))
    assert np.any(up[...] != stored)
    kept = nnx.to_pure_dict(nnx.state(model))["blocks"][0]["mlp"]["up"]
    np.testing.assert_array_equal(kept, stored)


@pytest.mark.slow
def test_a_model_is_that_of_its_kernels_on_the_grid():
    fields = {"model": MODEL, "weights": "int4", "targets": ("*/mlp/*", "*/query")}
    model = random_module(Quantized, **fields)
    plain = random_module(MODEL)
    graph, state = nnx.split(plain)
    ours, theirs = (
        tree_paths.by_path(nnx.to_pure_dict(nnx.state(x))) for x in (model, plain)
    )
    assert jax.tree.map(np.array_equal, ours, theirs) == dict.fromkeys(theirs, True)

    grids = wrapper.grids(functools.partial(Quantized, **fields))
    assert sorted(x.removeprefix("blocks/stacked/") for x in grids) == [
        "attention/query",
        *(f"mlp/{name}" for name in ("down", "gate", "router", "up")),
    ]
    on_grid = [
        grids[path].nearest(x) if path in grids else x for path, x in theirs.items()
    ]
    filled = nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(state), on_grid))
    rows = batch([[5, 3], [8], [2, 6]])
    quantized, expected, before = (
        x.head(x.trunk(rows).hidden) for x in (model, filled, plain)
    )
    np.testing.assert_allclose(quantized, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(quantized - before).max() > 0.05


def test_what_cannot_be_on_a_grid_is_named():
    for fields, words in (
        ({"block": 5}, r"blocks/stacked/attention/key: blocks of 5 do not divide 16"),
        ({"targets": "*/mpl/*"}, "no kernel matches '.*'; did you mean"),
        ({"model": functools.partial(LoRA, model=MODEL)}, "the model has adapters"),
        ({"weights": "int3"}, "weights must be one of .* did you mean"),
    ):
        make = functools.partial(Quantized, **({"model": MODEL} | fields))
        with pytest.raises(ValueError, match=words):
            nnx.eval_shape(lambda make=make: make(rngs=nnx.Rngs(0)))
