"""A head with a bias for each output."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import sharding
from models.base import Model
from models.kernels import projection


class Affine(nnx.Module):
    """`W h + b`, W a head that is there and b zero; the axes of both name `vocab`.

    Args:
      kernel: W, `[outputs dim]`.
      dtype: of the products.
      rngs: of the initial values.
    """

    def __init__(self, kernel: nnx.Param, *, dtype: str, rngs: nnx.Rngs):
        self.dtype, self.kernel = dtype, kernel
        self.bias = sharding.parameter(
            jax.nn.initializers.zeros,
            rngs,
            kernel.shape[:1],
            axes=kernel.get_metadata()["axes"][:1],
            dtype=str(kernel.dtype),
        )

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Return logits `[*b outputs]`, float32, of `[*b d]`."""
        logits = projection.logits(hidden, self.kernel[...], self.dtype)
        bias = self.bias[...].astype(jnp.float32)
        return logits + jnp.broadcast_to(bias, logits.shape)


def BiasedHead(*, model: Callable[..., Model], rngs: nnx.Rngs) -> Model:
    """Return `model` with `W h + b` in place of its head `W h`; b starts at zero.

    `W` is `output/kernel`, and b `output/bias`. What a naive Bayes classifier
    (`runner.starts.NaiveBayes`) needs.

    Args:
      model: called with `rngs=`; a classifier of images, or a `Transformer` whose head
        is not its embedding.
      rngs: of the initial values.

    Raises:
      ValueError: the model has no matrix of its own as its head.
    """
    biased: Any = model(rngs=rngs)
    kernel = getattr(biased, "output", None)
    if not isinstance(kernel, nnx.Param):
        raise ValueError(
            f"{type(biased).__name__} has no head of its own to add a bias to: "
            "tie_head=False, and no VQHead"
        )
    biased.output = Affine(kernel, dtype=biased.dtype, rngs=rngs)
    return biased
