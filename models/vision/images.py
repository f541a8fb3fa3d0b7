"""What every classifier of images does before its first layer and after its last."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from models import projection, sharding
from models.base import Model
from models.tags import check_dtype


class Classifier(Model):
    """A model of images `[b h w c]` with a linear head: `output`, `[classes dim]`.

    image_shape: `(h, w, c)`, None for any length.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"images"})
    image_shape: tuple[int | None, int | None, int]
    dtype: str
    output: Any

    def head(self, hidden: jax.Array) -> jax.Array:
        """`[*b d]` -> logits `[*b classes]`; accumulated and returned in float32."""
        logits = projection.logits(hidden, self.output[...], self.dtype)
        names = ("batch", *(None,) * logits.ndim)[: logits.ndim - 1]
        return sharding.constrain(logits, (*names, "vocab"))

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        found = batch["images"].shape[1:]
        fits = len(found) == 3 and all(
            wanted in (None, length)
            for wanted, length in zip(self.image_shape, found, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{type(self).__name__} takes images of {_shape(self.image_shape)}; "
                f"the data's are {_shape(found)}"
            )


def standardised(
    images: jax.Array, *, mean: float, stddev: float, dtype: str
) -> jax.Array:
    """`(x - mean) / stddev`; unsigned bytes become [0, 1] first."""
    x = images.astype(jnp.float32)
    if images.dtype == jnp.uint8:
        x = x / 255.0
    return ((x - mean) / stddev).astype(dtype)


def check_fields(*, stddev: float, dtype: str, param_dtype: str, **sizes: int) -> None:
    """ValueError unless sizes and the deviation are positive, and the types known."""
    for name, value in {**sizes, "pixel_stddev": stddev}.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    check_dtype("dtype", dtype)
    check_dtype("param_dtype", param_dtype)


def _shape(lengths: Sequence[int | None]) -> str:
    return " x ".join("any" if length is None else str(length) for length in lengths)
