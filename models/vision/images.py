"""Base of image classifiers: input standardization, linear head, shape check."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from models import sharding
from models.base import Model
from models.kernels import projection


class Classifier(Model):
    """Model of images `[b h w c]` with a linear head.

    Attributes:
      reads: `images`.
      image_shape: `(h, w, c)`, None for any length.
      dtype: of activations and products.
      output: the head's parameter, `[classes dim]`, or a module in its place.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"images"})
    image_shape: tuple[int | None, int | None, int]
    dtype: str
    output: Any

    def head(self, hidden: jax.Array) -> jax.Array:
        """Return logits `[*b classes]` of `[*b d]`; accumulated in float32."""
        if isinstance(self.output, nnx.Module):
            logits = self.output(hidden)
        else:
            logits = projection.logits(hidden, self.output[...], self.dtype)
        names = ("batch", *(None,) * logits.ndim)[: logits.ndim - 1]
        return sharding.constrain(logits, (*names, "vocab"))

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        shape = batch["images"].shape[1:]
        fits = len(shape) == 3 and all(
            expected in (None, length)
            for expected, length in zip(self.image_shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{type(self).__name__} takes images of "
                f"{_format_shape(self.image_shape)}; "
                f"the data's are {_format_shape(shape)}"
            )


def standardize(
    images: jax.Array, *, mean: float, stddev: float, dtype: str
) -> jax.Array:
    """Return `(x - mean) / stddev`; unsigned bytes become [0, 1] first."""
    x = images.astype(jnp.float32)
    if images.dtype == jnp.uint8:
        x = x / 255.0
    return ((x - mean) / stddev).astype(dtype)


def _format_shape(lengths: Sequence[int | None]) -> str:
    return " x ".join("any" if length is None else str(length) for length in lengths)
