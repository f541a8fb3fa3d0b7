"""Every kernel of attention against the textbook in float64, values and gradients.

Kernels of other devices run here as XLA operations; that they lower for their own is
tested too. Nothing here shows that they run there.
"""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as library

from models import masks, sharding
from models.kernels import blocked_attention, cudnn_attention, splash_attention
from models.masks import Heads, Kernel
from runner.head import flops
from tests.models.inputs import mesh_of, reference_attention
from tests.models.states import transformer

HEADS, HEAD_DIM = 4, 8
# Documents that end within a block, at its end, and over several; a row that pads; ids
# that no packing makes: out of order, and in several places.
IDS = np.array([[1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3], [7, 7, 7, 7, 5, 5, 7, 5, 0, 0, 0]])
SINKS = np.array([-9.0, 0.0, 0.5, 3.0])
CASES = {
    "grouped": {"kv_heads": 2},
    "windowed": {"kv_heads": 4, "window": 3},
    "one key head, window of 1": {"kv_heads": 1, "window": 1},
    "capped": {"kv_heads": 2, "window": 5, "soft_cap": 1.5},
    "sinks": {"kv_heads": 4, "sinks": SINKS},
}
PLAIN = [n for n, case in CASES.items() if not case.keys() & {"soft_cap", "sinks"}]


def inputs(kv_heads) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Queries, keys, values, and a cotangent of what they mix."""
    draw = np.random.default_rng(0)
    heads = (HEADS, kv_heads, kv_heads, HEADS)
    draws = (draw.normal(0, 0.8, (*IDS.shape, n, HEAD_DIM)) for n in heads)
    q, k, v, d = (jnp.asarray(x, jnp.float32) for x in draws)
    return q, k, v, d


def blocks(q, k, v, *, window=None, soft_cap=None, sinks=None):
    mask = blocked_attention.packing(
        jnp.asarray(IDS, jnp.int32), window, block=4, by_row=soft_cap is None
    )
    return blocked_attention.attend(q, k, v, mask, soft_cap=soft_cap, sinks=sinks)


def cudnn(q, k, v, *, window=None):
    ids = jnp.asarray(IDS, jnp.int32)
    return cudnn_attention.attend(q, k, v, ids, window=window, implementation="xla")


def splash(q, k, v, **fields):
    ids = jnp.asarray(IDS, jnp.int32)
    return splash_attention.attend(q, k, v, ids, interpret=True, **fields)


def check(attend, names):
    """Values and gradients of these cases, by one program."""

    def run(inputs, sinks):
        results = {}
        for name in names:
            fields = {n: x for n, x in CASES[name].items() if n != "kv_heads"}
            *arrays, cotangent = inputs[name]
            if "sinks" in fields:
                arrays.append(sinks)

            def of(q, k, v, *sinks, fields=fields):
                more = {"sinks": sinks[0]} if sinks else {}
                return attend(q, k, v, **(fields | more))

            mixed, pullback = jax.vjp(of, *arrays)
            results[name] = mixed, pullback(cotangent)
        return results

    arrays = {name: inputs(CASES[name]["kv_heads"]) for name in names}
    results = jax.jit(run)(arrays, jnp.asarray(SINKS, jnp.float32))
    for name, (mixed, gradients) in results.items():
        case = CASES[name]
        allowed = masks.packed_mask(jnp.asarray(IDS), case.get("window"))
        expected = reference_attention(
            *arrays[name],
            allowed,
            soft_cap=case.get("soft_cap"),
            sinks=case.get("sinks"),
        )
        close = functools.partial(
            np.testing.assert_allclose, rtol=1e-5, atol=2e-6, err_msg=name
        )
        close(mixed, expected[0])
        for got, wanted in zip(gradients, expected[1], strict=False):
            close(got, wanted)


def test_blocks_are_the_textbook():
    check(blocks, CASES)


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


@pytest.mark.parametrize(
    ("platform", "length", "fields", "expected"),
    [
        ("cpu", 128, {}, "whole"),
        ("cpu", 129, {}, "blocks"),
        ("tpu", 128, {}, "whole"),
        ("tpu", 2048, {"soft_cap": 50.0, "sinks": True}, "splash"),
        ("cuda", 2048, {"dtype": "bfloat16"}, "cudnn"),
        ("gpu", 2048, {"dtype": "bfloat16"}, "whole"),
        ("cuda", 2048, {}, "whole"),
        ("cuda", 8192, {}, "blocks"),
        ("cuda", 2048, {"dtype": "bfloat16", "soft_cap": 50.0}, "whole"),
        ("cuda", 2048, {"dtype": "float16", "sinks": True}, "whole"),
        ("cuda", 2048, {"dtype": "bfloat16", "width": 160}, "whole"),
        ("cuda", 2048, {"dtype": "bfloat16", "width": 36}, "whole"),
        ("cuda", 2047, {"dtype": "bfloat16"}, "whole"),
        ("cuda", 16384, {"dtype": "bfloat16"}, "blocks"),
    ],
)
def test_the_kernel_is_that_of_the_platform(
    monkeypatch, platform, length, fields, expected
):
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    heads = Heads(**({"width": 64, "dtype": "float32"} | fields))
    assert masks.kernel(length, heads).name == expected


@pytest.mark.parametrize(
    ("platform", "capability", "expected"),
    [
        ("cpu", None, "cpu"),
        ("tpu", None, "tpu"),
        ("gpu", "7.5", "gpu"),
        ("gpu", "8.0", "cuda"),
        ("gpu", "12.0", "cuda"),
        ("gpu", "gfx90a", "gpu"),
    ],
)
def test_only_nvidias_gpus_since_ampere_are_cuda(
    monkeypatch, platform, capability, expected
):
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert sharding.platform() == expected


def test_kernels_are_named():
    assert str(Kernel("blocks", 128)) == "attention in blocks of 128"
    model = transformer(dtype="bfloat16", head_dim=8)
    assert model.trunk_form(2048, "cuda") == "attention by cuDNN"
    assert model.trunk_form(2048, "tpu") == "attention by splash attention"


def shapes(dtype, head_dim, length=256):
    """Abstract queries, keys, values and segment ids."""
    sizes = [(2, length, n, head_dim) for n in (4, 2, 2)]
    arrays = [jax.ShapeDtypeStruct(size, dtype) for size in sizes]
    return [*arrays, jax.ShapeDtypeStruct((2, length), jnp.int32)]


def gradient(attend):
    """Value and gradient of a sum of `attend`."""

    def total(q, k, v, ids):
        return jnp.sum(attend(q, k, v, ids).astype(jnp.float32))

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))


@pytest.mark.parametrize(("dtype", "head_dim"), [("float32", 48), ("bfloat16", 128)])
def test_splash_attention_lowers_for_a_tpu(dtype, head_dim):
    attend = functools.partial(splash_attention.attend, window=100, soft_cap=50.0)
    with jax.numpy_rank_promotion("allow"):
        traced = gradient(attend).trace(*shapes(dtype, head_dim))
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") == 3  # forward; queries; keys and values


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
