"""Rows for every kernel of attention, and the textbook in float64 beside them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from models import masks
from tests.models.inputs import reference_attention

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
