"""Fates of the runs of a soup."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass
class Ingredient:
    """A run of a soup.

    Attributes:
      run: its checkpoint.
      loss: its own on the held-out data, nats a target.
      mixed: whether it is part of the soup.
      loss_with: that of the mean with it, where it was tried.
      share: its weight in the mean, where that is learned; by layer, the mean over
        tensors.
    """

    run: str
    loss: float
    mixed: bool = False
    loss_with: float | None = None
    share: float | None = None


def table(ingredients: Sequence[Ingredient]) -> str:
    """Return a line for each run: its loss, that of the mean with it, and its fate."""
    lines = []
    for one in ingredients:
        tried = "" if one.loss_with is None else f"  with it {one.loss_with:.5g}"
        fate = "mixed in" if one.mixed else "left out"
        share = "" if one.share is None else f", {one.share:.1%}"
        lines.append(f"  {one.run}: loss {one.loss:.5g}{tried}  {fate}{share}")
    return "\n".join(lines)
