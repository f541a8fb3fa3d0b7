"""Rows of the table: cuDNN's attention beside ours by blocks and whole, on the device.

Packed, padded, windowed and grouped rows, bfloat16: largest difference of values and
gradients from the textbook in float32, relative to the largest entry; and the time of
both ways together. `one document` is cuDNN without the bias that documents are to it.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models import masks
from models.kernels import blocked_attention, cudnn_attention
from models.kernels.packing import Packing
from tests.benchmarks import timed_step
from tests.gpu import settings

CASES: Mapping[str, Mapping[str, Any]] = {
    "packed": {"kv_heads": 8},
    "grouped": {"kv_heads": 2},
    "windowed": {"kv_heads": 2, "window": 512},
    "padded": {"kv_heads": 2, "padded": True},
}
HEADS, HEAD_DIM, BLOCK = 8, 64, 512


def main() -> None:
    """Print closeness a case at 1,024 tokens, then times at 2,048 and 8,192."""
    for name, case in CASES.items():
        arrays, ids = inputs(2, 256 if settings.current().tiny else 1024, **case)
        window = window_of(case)
        with jax.default_matmul_precision("highest"):
            expected = run(whole(ids, window), *widened(arrays))
        for way, attend in forms(ids, window).items():
            try:
                results = run(attend, *arrays)
            except Exception as error:
                settings.row(f"attention, {name}, {way}", not_run(error))
                continue
            differences = [
                float(jnp.max(jnp.abs(b.astype(jnp.float32) - a)) / jnp.max(jnp.abs(a)))
                for a, b in zip(expected, results, strict=True)
            ]
            text = ", ".join(f"{x:.1e}" for x in differences)
            settings.row(
                f"attention, {name}, {way}", f"value, dq, dk, dv off by {text}"
            )
    for length in (2048, 8192):
        timed(settings.current().length(length))


def timed(length: int) -> None:
    """Print the times of rows of a length, 16,384 tokens."""
    rows = 1 if settings.current().tiny else 16_384 // length
    for name in ("grouped", "windowed"):
        case = CASES[name]
        arrays, ids = inputs(rows, length, **case)
        ready: dict[str, Callable[[], object]] = {}
        ways = forms(ids, window_of(case))
        if length > 4096:
            del ways["whole"]
        ways["cuDNN, one document"] = functools.partial(single, window_of(case))
        for way, attend in ways.items():
            call = functools.partial(run, attend, *arrays)
            try:
                jax.block_until_ready(call())
            except Exception as error:
                settings.row(
                    f"attention, {name}, T = {length:,}, {way}", not_run(error)
                )
                continue
            ready[way] = lambda call=call: jax.block_until_ready(call())
        times = timed_step.in_turn(ready, settings.current().rounds())
        for way, seconds in times.items():
            settings.row(
                f"attention, {name}, T = {length:,}, {way}",
                f"{1e3 * np.median(seconds):.2f} ms forward and backward",
                "blocks",
                settings.ratio(times, way, "blocks"),
            )


def inputs(
    rows: int, length: int, *, kv_heads: int, window: int = 0, padded: bool = False
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Return queries, keys, values, a cotangent, and documents of random length."""
    del window
    draw = np.random.default_rng(0)
    heads = (HEADS, kv_heads, kv_heads, HEADS)
    shapes = [(rows, length, n, HEAD_DIM) for n in heads]
    arrays = tuple(jnp.asarray(draw.normal(0, 0.5, s), jnp.bfloat16) for s in shapes)
    ids = 1 + np.cumsum(draw.random((rows, length)) < 4 / length, axis=1)
    if padded:
        ids[:, -length // 4 :] = 0
    return arrays, jnp.asarray(ids, jnp.int32)


def window_of(case: Mapping[str, Any]) -> int | None:
    """Return the window of a case, smaller where rows are."""
    window = case.get("window")
    return window and (64 if settings.current().tiny else window)


def forms(ids: jax.Array, window: int | None) -> dict[str, Callable]:
    """Return the kernels."""
    packing = Packing.of(ids, window, block=64 if settings.current().tiny else BLOCK)
    implementation = "xla" if jax.default_backend() == "cpu" else "cudnn"
    return {
        "blocks": lambda q, k, v: blocked_attention.attend(q, k, v, packing),
        "whole": whole(ids, window),
        "cuDNN": lambda q, k, v: cudnn_attention.attend(
            q, k, v, ids, window=window, implementation=implementation
        ),
    }


def whole(ids: jax.Array, window: int | None) -> Callable:
    """Return attention by the textbook: scores of whole rows."""

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
        scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=jnp.float32)
        allowed = jnp.expand_dims(masks.packed_mask(ids, window), 1)
        weights = jax.nn.softmax(jnp.where(allowed, scores, -1e30), axis=-1)
        return jnp.einsum("bhts,bshd->bthd", weights.astype(v.dtype), v)

    return attend


def single(window: int | None, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention of rows of one document."""
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        scale=1.0,
        is_causal=True,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="xla" if jax.default_backend() == "cpu" else "cudnn",
    )


@functools.partial(jax.jit, static_argnums=0)
def run(attend: Callable, q, k, v, cotangent) -> tuple[jax.Array, ...]:
    """Return values and gradients."""
    mixed, pullback = jax.vjp(attend, q, k, v)
    return mixed, *pullback(cotangent.astype(mixed.dtype))


def widened(arrays: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Return them in float32."""
    return tuple(x.astype(jnp.float32) for x in arrays)


def not_run(error: Exception) -> str:
    """Return one line of it."""
    return f"not run: {str(error).splitlines()[0][:200]}"


if __name__ == "__main__":
    main()
