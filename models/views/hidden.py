"""View with a share of every row hidden."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from models.base import Batch, Model, row_keys
from models.views.view import View, pixels

_HIDES = frozenset({"images", "tokens", "values"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hidden(View):
    """The batch with each pixel, token or number hidden with probability `share`.

    Drawn anew for every row and step. Padding, and what a token predicts, stay. Of
    series, numbers that were observed are no longer.

    Attributes:
      share: in [0, 1]; at 0 the view is the batch.
      pixel: that stands in their place, in [0, 1].
      token: likewise, an id.
      length: moments of a channel of series that are hidden at once; 1 for numbers on
        their own.

    Raises:
      ValueError: a number is outside of its range.
    """

    share: float
    pixel: float = 0.0
    token: int = 0
    length: int = 1
    draws = True

    def __post_init__(self):
        for name in ("share", "pixel"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.token < 0:
            raise ValueError(f"token must be an id, got {self.token}")
        if self.length < 1:
            raise ValueError(f"length must be at least 1, got {self.length}")

    def __call__(self, model: Model, batch: Batch) -> Batch:
        self.check_batch(model, batch)
        if "images" in batch:
            images = pixels(batch["images"])
            places = (*images.shape[:-1], 1)  # all channels of a pixel at once
            hidden = self._drawn(batch, places)
            return {**batch, "images": jnp.where(hidden, self.pixel, images)}
        if "values" in batch:
            return {**batch, "observed": batch["observed"] & ~self._gaps(batch)}
        tokens = batch["tokens"]
        hidden = self._drawn(batch, tokens.shape) & (batch["segment_ids"] > 0)
        return {**batch, "tokens": jnp.where(hidden, self.token, tokens)}

    def check_batch(self, model: Model, batch: Mapping[str, Any]) -> None:
        if not _HIDES & batch.keys():
            raise ValueError(
                "Hidden is of images, tokens or values of series, and "
                f"{type(model).__name__} reads {', '.join(sorted(model.reads))}"
            )

    def _gaps(self, batch: Batch) -> jax.Array:
        """Return what lies in a gap of series, bool `[b t c]`."""
        rows, moments, channels = batch["observed"].shape
        # Hidden where one of `length` places begins a gap; all of none: 1 - share.
        share = 1.0 - (1.0 - self.share) ** (1.0 / self.length)
        shape = (rows, moments + self.length - 1, channels)
        begins = self._drawn(batch, shape, share)
        gaps = [begins[:, i : i + moments] for i in range(self.length)]
        return functools.reduce(jnp.logical_or, gaps)

    def _drawn(
        self, batch: Batch, shape: tuple[int, ...], share: float | None = None
    ) -> jax.Array:
        share = self.share if share is None else share

        def draw(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(key, share, shape[1:])

        return jax.vmap(draw)(row_keys(batch))
