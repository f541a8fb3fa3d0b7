"""Generation of ours, or one scan by hand: run by `generation.py`.

Reads a number of rounds a line, answers with their seconds. Greedy.
"""

import functools
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import models
from models.decoding.generate import generate
from tests.benchmarks import timed_step
from tests.peers.writing import AT_ONCE, VOCABULARY, WORKLOADS, shape_of

SHAPE, DTYPE = shape_of(sys.argv[3:])


def main() -> None:
    """Serve rounds until the input ends."""
    way, workload = sys.argv[1:3]
    prompts, limits = WORKLOADS[workload]()
    width = max(map(len, prompts))
    ids = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    lengths = np.array([len(prompt) for prompt in prompts])
    write = {"refilled": refilled, "scan": scanned}[way](ids, lengths, limits)
    write()
    print(f"jax {jax.__version__}, {way}", flush=True)
    for line in sys.stdin:
        rounds = range(int(line))
        print(sum(timed_step.seconds(write) for _ in rounds), flush=True)


def refilled(
    ids: np.ndarray, lengths: np.ndarray, limits: np.ndarray
) -> Callable[[], object]:
    """Return what writes all rows once, `AT_ONCE` at a time."""
    model = models.Transformer(
        vocab_size=VOCABULARY,
        dim=SHAPE["dim"],
        num_layers=SHAPE["layers"],
        num_heads=SHAPE["heads"],
        mlp=functools.partial(models.GatedMLP, hidden_dim=SHAPE["hidden"]),
        dtype=DTYPE,
        rngs=nnx.Rngs(0),
    )
    run = functools.partial(
        *(generate, model, ids, lengths),
        num_tokens=int(limits.max()),
        limits=limits,
        at_once=AT_ONCE,
    )
    return lambda: np.asarray(run())


def scanned(
    ids: np.ndarray, lengths: np.ndarray, limits: np.ndarray
) -> Callable[[], object]:
    """Return one `lax.scan` by hand over the same shape, prompts of one length."""
    del lengths
    dim, heads, hidden = SHAPE["dim"], SHAPE["heads"], SHAPE["hidden"]
    rows, width = ids.shape
    slots = width + int(limits.max())
    draw = np.random.default_rng(0)
    each = dim // heads
    angles = np.arange(slots)[:, None] / 1e4 ** (np.arange(0, each, 2) / each)
    cos, sin = (jnp.asarray(f(angles), DTYPE) for f in (np.cos, np.sin))

    def matrix(*shape: int) -> jax.Array:
        return jnp.asarray(draw.normal(0, shape[0] ** -0.5, shape), DTYPE)

    sizes = {"q": dim, "k": dim, "v": dim, "o": dim, "gate": hidden, "up": hidden}
    layers = [
        {name: matrix(dim, size) for name, size in sizes.items()}
        | {"down": matrix(hidden, dim)}
        for _ in range(SHAPE["layers"])
    ]
    table, head = matrix(VOCABULARY, dim), matrix(dim, VOCABULARY)

    def normed(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)

    def rotated(x: jax.Array, start: jax.Array) -> jax.Array:
        c, s = (
            jax.lax.dynamic_slice_in_dim(y, start, x.shape[1])[None, :, None]
            for y in (cos, sin)
        )
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([a * c - b * s, b * c + a * s], axis=-1)

    def forward(tokens: jax.Array, start: jax.Array, caches: list) -> tuple:
        x, after = table[tokens], []
        length = tokens.shape[1]
        seen = start + jnp.arange(length)[:, None] >= jnp.arange(slots)[None]
        for w, cache in zip(layers, caches, strict=True):
            y = normed(x)
            q, k, v = ((y @ w[n]).reshape(rows, length, heads, each) for n in "qkv")
            q, k = rotated(q, start), rotated(k, start)
            keys, values = (
                jax.lax.dynamic_update_slice(old, new, (0, start, 0, 0))
                for old, new in zip(cache, (k, v), strict=True)
            )
            after.append((keys, values))
            scores = jnp.einsum("bthd,bshd->bhts", q, keys) / each**0.5
            weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -1e30))
            mixed = jnp.einsum("bhts,bshd->bthd", weights, values)
            x = x + mixed.reshape(x.shape) @ w["o"]
            y = normed(x)
            x = x + (jax.nn.silu(y @ w["gate"]) * (y @ w["up"])) @ w["down"]
        return normed(x[:, -1]) @ head, after

    @jax.jit
    def write(ids: jax.Array) -> jax.Array:
        zeros = jnp.zeros((rows, slots, heads, each), DTYPE)
        logits, caches = forward(ids, jnp.int32(0), [(zeros, zeros)] * len(layers))

        def step(carry: tuple, at: jax.Array) -> tuple:
            token, caches = carry
            logits, caches = forward(token[:, None], at, caches)
            return (jnp.argmax(logits, axis=-1), caches), token

        first = jnp.argmax(logits, axis=-1)
        return jax.lax.scan(step, (first, caches), jnp.arange(width, slots))[1].T

    return lambda: np.asarray(write(ids))


if __name__ == "__main__":
    main()
