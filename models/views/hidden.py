"""View with a share of every row hidden."""

import dataclasses

import jax
import jax.numpy as jnp

from models.base import Batch, Model, row_keys
from models.views.view import View, pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hidden(View):
    """The batch with each pixel, or token, replaced with probability `share`.

    Drawn anew for every row and step. Padding, and what a token predicts, stay.

    Attributes:
      share: in [0, 1]; at 0 the view is the batch.
      pixel: that stands in their place, in [0, 1].
      token: likewise, an id.

    Raises:
      ValueError: a number is outside of its range.
    """

    share: float
    pixel: float = 0.0
    token: int = 0
    draws = True

    def __post_init__(self):
        for name in ("share", "pixel"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.token < 0:
            raise ValueError(f"token must be an id, got {self.token}")

    def __call__(self, model: Model, batch: Batch) -> Batch:
        del model
        if "images" in batch:
            images = pixels(batch["images"])
            places = (*images.shape[:-1], 1)  # all channels of a pixel at once
            hidden = self._drawn(batch, places)
            return {**batch, "images": jnp.where(hidden, self.pixel, images)}
        tokens = batch["tokens"]
        hidden = self._drawn(batch, tokens.shape) & (batch["segment_ids"] > 0)
        return {**batch, "tokens": jnp.where(hidden, self.token, tokens)}

    def _drawn(self, batch: Batch, shape: tuple[int, ...]) -> jax.Array:
        def draw(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(key, self.share, shape[1:])

        return jax.vmap(draw)(row_keys(batch))
