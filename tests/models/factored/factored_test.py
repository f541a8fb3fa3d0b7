"""Heads over code books and low-rank, sparse kernels, against what they stand for."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import LOST, Transformer, VQHead
from models.factored import code_book
from models.kernels import projection
from tests.models import inputs
from tests.models.states import SMALL, random_module

TRANSFORMER = functools.partial(Transformer, **(SMALL | {"num_layers": 1}))


def test_a_code_book_is_the_head_of_its_rows_and_of_every_token_the_dense_one():
    draw = np.random.default_rng(0)
    size = inputs.VOCAB
    model = random_module(VQHead, model=TRANSFORMER, num_codes=size, bias=True)
    hidden = draw.normal(size=(3, 16)).astype(np.float32)
    codes = np.asarray(model.output.codes[...], np.float64)
    model.output.mapping[...] = np.arange(size, dtype=np.int32)
    model.output.output_bias[...] = np.zeros(size, np.float32)
    dense = projection.logits(hidden, model.output.codes[...], "float32")
    np.testing.assert_array_equal(model.head(hidden), dense)

    mapping = draw.permutation(np.arange(size) % 4)
    biases = draw.normal(size=size).astype(np.float32)
    model.output.mapping[...] = np.int32(mapping)
    model.output.output_bias[...] = biases
    logits = np.float64(model.head(hidden))
    np.testing.assert_allclose(logits, hidden @ codes[mapping].T + biases, atol=1e-5)

    # Its normaliser in K terms: log Σ_k (Σ_{v of k} exp b_v) exp(h · c_k).
    of_codes = np.zeros(size)
    np.add.at(of_codes, mapping, np.exp(np.float64(biases)))
    log_z = np.log((of_codes * np.exp(hidden @ codes.T)).sum(-1))
    np.testing.assert_allclose(np.log(np.exp(logits).sum(-1)), log_z, atol=1e-5)


def test_a_mapping_is_read_or_refused(tmp_path):
    def make(**fields):
        make = functools.partial(VQHead, model=TRANSFORMER, **fields)
        return nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))

    path = str(tmp_path / "mapping.npy")
    np.save(path, np.arange(inputs.VOCAB)[::-1] % 4)
    fields = {"num_codes": 4}
    assert code_book.read_mapping(path, size=inputs.VOCAB, num_codes=4)[0] == 0
    for wrong, words in (
        ({"num_codes": 14}, "num_codes must be in 1..13, got 14"),
        ({"mapping": "absent.npy"}, "no array of numpy in 'absent.npy'"),
        ({"mapping": path, "num_codes": 3}, r"be \[13\] integers in 0..2, got \[13\]"),
    ):
        with pytest.raises(ValueError, match=words):
            make(**(fields | wrong))


class Layer(nnx.Module):
    """Two kernels of a block with random entries, one of them into heads."""

    adapters: Any = None
    trainable = None

    def __init__(self, rngs):
        draw = np.random.default_rng(0)
        up, query = draw.normal(size=(16, 40)), draw.normal(size=(16, 4, 5))
        self.up = nnx.Param(np.float32(up), axes=("embed", "mlp"))
        self.query = nnx.Param(np.float32(query), axes=("embed", "heads", None))


@pytest.mark.slow
def test_full_rank_alone_is_the_layer_and_the_rest_is_its_longest_rows():
    dense, full = Layer(None), LOST(model=Layer, rank=40, share=1.0, rngs=nnx.Rngs(0))
    for name in ("up", "query"):
        kernel, same = getattr(dense, name)[...], getattr(full, name)[...]
        np.testing.assert_allclose(same, kernel, atol=1e-5)

    fields = {"channels": 0.25, "share": 0.3, "targets": "up"}
    make: Any = functools.partial(LOST, model=Layer)
    kernel = make(rank=3, **fields, rngs=nnx.Rngs(0)).up
    whole = np.asarray(dense.up[...], np.float64)
    u, s, v = np.linalg.svd(whole, full_matrices=False)
    low = (u[:, :3] * s[:3]) @ v[:3]
    rows = np.argsort(np.linalg.norm(whole - low, axis=1))[-4:]
    expected = 0.3 * low
    expected[rows] += 0.7 * whole[rows]
    np.testing.assert_allclose(kernel[...], expected, atol=1e-5)
    sizes = [x.size for x in jax.tree.leaves(nnx.state(kernel, nnx.Param))]
    assert sum(sizes) == 3 * (16 + 40) + 4 * 40

    # With an activation between the factors, at the place of the product.
    fields |= {"targets": "*", "activation": "silu"}
    made = make(rank=3, **fields, rngs=nnx.Rngs(0))
    x = np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)
    for name, kernel in (("up", dense.up), ("query", dense.query)):
        whole = np.asarray(kernel[...], np.float64).reshape(16, -1)
        u, s, v = np.linalg.svd(whole, full_matrices=False)
        a, b = u[:, :3] * np.sqrt(s[:3]), np.sqrt(s[:3])[:, None] * v[:3]
        rows = np.argsort(np.linalg.norm(whole - a @ b, axis=1))[-4:]
        low = x @ a
        expected = 0.3 * (low / (1 + np.exp(-low))) @ b
        expected += 0.7 * x[:, rows] @ whole[rows]
        product = jnp.tensordot(x, getattr(made, name)[...], axes=1)
        found = made.adapters.add(name, x, product)
        np.testing.assert_allclose(
            np.reshape(found, (2, -1)), expected, rtol=1e-4, atol=1e-4
        )
