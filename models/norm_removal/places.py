"""Positions that fading norms treat apart, while a trunk runs."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax

from models.base import Batch


class Places(NamedTuple):
    """Positions of the batch that a trunk runs over, bool `[b t]`.

    Attributes:
      first: the first ones of texts.
      end: tokens that end a text, and are not first.
      other: all other tokens; none of padding.
    """

    first: jax.Array
    end: jax.Array
    other: jax.Array


_current: contextvars.ContextVar[Places | None] = contextvars.ContextVar(
    "places", default=None
)


def current() -> Places | None:
    """Return those of the trunk that runs; None outside of one."""
    return _current.get()


@contextlib.contextmanager
def of(batch: Batch, end: int | None) -> Iterator[None]:
    """Make the places of a batch those of the trunk that runs within.

    Args:
      batch: with `positions`, `segment_ids` and, where there is an `end`, `tokens`.
      end: id of the token that ends a text; None for none.
    """
    real = batch["segment_ids"] > 0
    first = (batch["positions"] == 0) & real
    at_end = real & ~first & (batch["tokens"] == (-1 if end is None else end))
    token = _current.set(Places(first, at_end, real & ~first & ~at_end))
    try:
        yield
    finally:
        _current.reset(token)
