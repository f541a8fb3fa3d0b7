"""Small models, with random parameters or as they start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import Transformer, sharding
from tests.models.inputs import VOCAB

SMALL = {
    "vocab_size": VOCAB,
    "dim": 16,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
}


def transformer(**fields) -> Transformer:
    return random_module(Transformer, **(SMALL | fields))


def random_module(kind, **fields):
    """`kind(**fields, rngs=...)` with random matrices and all else one.

    Compiles nothing, which running its initialisers would.
    """
    draw = np.random.default_rng(0)

    def fill(parameter):
        values = np.ones(parameter.shape)
        if values.ndim > 1:
            values = draw.normal(0, parameter.shape[-2] ** -0.5, parameter.shape)
        return jnp.asarray(values.astype(parameter.dtype))

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
    """Nested dicts of a model with separate layers, as one with stacked layers has.

    Stacked by NumPy: JAX would compile a program for each shape.
    """
    blocks = values["blocks"]
    layers = [blocks[key] for key in sorted(blocks, key=int)]
    stacked = jax.tree.map(lambda *arrays: jnp.asarray(np.stack(arrays)), *layers)
    return values | {"blocks": {"stacked": stacked}}


def initial_module(kind, *, mesh=None, **fields):
    """`kind(**fields, rngs=...)` as it starts, compiled once instead of op by op.

    Args:
        mesh: where every array is created in its sharding; None is one device.
    """

    def create():
        return kind(**fields, rngs=nnx.Rngs(0))

    graph, abstract = nnx.split(nnx.eval_shape(create))
    places = None if mesh is None else sharding.parameter_shardings(abstract, mesh)
    values = jax.jit(
        lambda: nnx.to_pure_dict(nnx.state(create())), out_shardings=places
    )
    return nnx.merge(graph, values())
