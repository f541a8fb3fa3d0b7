"""Small models and batches that the tests of this folder share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import Transformer

VOCAB = 13
SMALL = {
    "vocab_size": VOCAB,
    "dim": 16,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
}


def transformer(**fields) -> Transformer:
    return created(Transformer, **(SMALL | fields))


def created(kind, **fields):
    """`kind(**fields, rngs=...)` with random matrices and all else one.

    Compiles nothing, which running its initialisers would.
    """
    draw = np.random.default_rng(0)

    def fill(parameter):
        values = np.ones(parameter.shape)
        if values.ndim > 1:
            values = draw.normal(0, parameter.shape[-2] ** -0.5, parameter.shape)
        return jnp.asarray(values, parameter.dtype)

    graph, state = nnx.split(nnx.eval_shape(lambda: kind(**fields, rngs=nnx.Rngs(0))))
    return nnx.merge(graph, jax.tree.map(fill, state))


def in_both_forms(**fields) -> tuple[Transformer, Transformer]:
    """The same parameters twice: with separate layers, and with stacked ones."""
    separate = transformer(**fields)
    values = stacked_values(nnx.to_pure_dict(nnx.state(separate)))
    kind = functools.partial(Transformer, **(SMALL | fields), layers="stacked")
    graph = nnx.graphdef(nnx.eval_shape(lambda: kind(rngs=nnx.Rngs(0))))
    return separate, nnx.merge(graph, values)


def stacked_values(values):
    """Nested dicts of a model with separate layers, as one with stacked layers has."""
    blocks = values["blocks"]
    layers = [blocks[key] for key in sorted(blocks, key=int)]
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *layers)
    return values | {"blocks": {"stacked": stacked}}


def initialised(kind, **fields):
    """`kind(**fields, rngs=...)` as it starts, compiled once instead of op by op."""
    make = functools.partial(kind, **fields)
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))
    state = jax.jit(lambda: nnx.to_pure_dict(nnx.state(make(rngs=nnx.Rngs(0)))))()
    return nnx.merge(graph, state)


def batch(segments: list[list[int]], *, seed: int = 0) -> dict[str, jax.Array]:
    """Random tokens in rows packed with documents of the given lengths.

    What a row leaves over of the longest row is padding: segment 0, mask false.
    """
    length = max(sum(row) for row in segments)
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, VOCAB, (len(segments), length), np.int32)
    targets = draw.integers(1, VOCAB, (len(segments), length), np.int32)
    ids = np.zeros((len(segments), length), np.int32)
    positions = np.zeros((len(segments), length), np.int32)
    for row, lengths in enumerate(segments):
        start = 0
        for segment, size in enumerate(lengths):
            ids[row, start : start + size] = segment + 1
            positions[row, start : start + size] = np.arange(size)
            start += size
        positions[row, start:] = np.arange(length - start)
    arrays = {
        "tokens": np.where(ids > 0, tokens, 0),
        "targets": np.where(ids > 0, targets, 0),
        "mask": ids > 0,
        "segment_ids": ids,
        "positions": positions,
        "index": np.arange(len(segments), dtype=np.int32),
    }
    return {name: jnp.asarray(value) for name, value in arrays.items()}
