"""Attention by cuDNN: what it is told against the textbook, and that it lowers.

No GPU runs it here: see `attention_kernels_test`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as library

from models import masks
from models.kernels import cudnn_attention
from runner.head import flops
from tests.models.inputs import reference_attention
from tests.models.kernels.attention_cases import (
    CASES,
    IDS,
    PLAIN,
    check,
    gradient,
    inputs,
    shapes,
)


def cudnn(q, k, v, *, window=None):
    ids = jnp.asarray(IDS, jnp.int32)
    return cudnn_attention.attend(q, k, v, ids, window=window, implementation="xla")


def test_the_rows_for_cudnn_are_the_textbook():
    check(cudnn, PLAIN)


def textbook(query, key, value, bias, *_, mask_type, layout, **fields):
    """Stand in for JAX's call of cuDNN, in float64, as its docstring has it."""
    assert mask_type.name == "CAUSAL"
    assert layout == 0  # [b t heads head_dim]
    assert (fields["scale"], fields["dropout_rate"]) == (1.0, 0.0)
    q, k, v, bias = (np.asarray(x, np.float64) for x in (query, key, value, bias))
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("bthd,bshd->bhts", q, k) + bias
    behind = np.subtract.outer(*2 * [np.arange(q.shape[1])])
    reach = fields["sliding_window_length"] or len(behind)
    weights = np.where((behind >= 0) & (behind < reach), np.exp(scores), 0)
    return np.einsum("bhts,bshd->bthd", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("version", [90800, 91002])
def test_what_cudnn_is_told_is_the_textbook(monkeypatch, version, dtype):
    monkeypatch.setattr(library, "check_cudnn_version", lambda: version)
    monkeypatch.setattr(library, "_dot_product_attention", textbook)
    ids = jnp.asarray(IDS, jnp.int32)
    for name in PLAIN:
        window = CASES[name].get("window")
        q, k, v, cotangent = inputs(CASES[name]["kv_heads"])
        q, k, v = (x.astype(dtype) for x in (q, k, v))
        mixed = cudnn_attention.attend(q, k, v, ids, window=window)
        allowed = masks.packed_mask(ids, window)
        expected, _ = reference_attention(q, k, v, cotangent, allowed)
        np.testing.assert_allclose(mixed, expected, rtol=1e-12, err_msg=name)


def test_a_jax_without_the_function_below_is_called_above_it(monkeypatch):
    above, called = jax.nn.dot_product_attention, []

    def on_a_cpu(*arrays, implementation, **fields):
        called.append(implementation)
        return above(*arrays, implementation="xla", **fields)

    monkeypatch.delattr(library, "_dot_product_attention")
    monkeypatch.setattr(jax.nn, "dot_product_attention", on_a_cpu)
    ids = jnp.asarray(IDS, jnp.int32)
    check(lambda q, k, v, **of: cudnn_attention.attend(q, k, v, ids, **of), PLAIN)
    assert called == ["cudnn"] * len(PLAIN)


@pytest.mark.parametrize(
    ("window", "version", "sliding"),
    [(None, 91002, 0), (100, 91002, 100), (100, 90800, 0)],
)
def test_attention_by_cudnn_lowers_for_a_gpu(monkeypatch, window, version, sliding):
    monkeypatch.setattr(library, "check_cudnn_version", lambda: version)
    attend = functools.partial(cudnn_attention.attend, window=window)
    arrays = shapes("bfloat16", 64)
    traced = gradient(attend).trace(*arrays)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("@__cudnn$fmhaScaleBiasSoftmax(") == 1
    (backward,) = (x for x in text.splitlines() if "SoftmaxBackward(" in x)
    # Queries, keys, values and a workspace: nothing of the size of the scores.
    assert "256x256" not in backward.split("->")[-1]
    assert text.count(f"sliding_window_length\\22: {sliding},") == 2
    # Two products forward, five backward, of 2 rows and 4 heads of 64.
    pairs = sum(min(i + 1, sliding or 256) for i in range(256))
    assert flops.matmul_flops(gradient(attend), *arrays) == 7 * 2 * 2 * 4 * 64 * pairs
