"""Interface of views: a function of a batch, row by row."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from models.base import Batch, Model


class View(abc.ABC):
    """Another batch of the same rows.

    A row of it depends on that row alone, and on numbers drawn for it; or on the rows
    of its group, of which a microbatch holds all. So a view is the same however a batch
    is cut into microbatches, or spread over devices.

    Attributes:
      draws: whether it reads `batch["row_seed"]`.
    """

    draws: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, model: Model, batch: Batch) -> Batch:
        """Return the view, its gradient stopped.

        Args:
          model: the student, its parameters' gradients stopped.
          batch: arrays `[b ...]`.

        Raises:
          ValueError: as `check_batch`.
        """

    def check_batch(self, model: Model, batch: Mapping[str, Any]) -> None:
        """Refuse a batch that has nothing to change.

        Args:
          model: the student.
          batch: arrays, or anything with their shapes, by name.

        Raises:
          ValueError: naming the model and what it reads.
        """
        del model, batch


def pixels(images: jax.Array) -> jax.Array:
    """Return images as float32 in [0, 1]; unsigned bytes are divided by 255."""
    wide = images.astype(jnp.float32)
    return wide / 255.0 if images.dtype == jnp.uint8 else wide
