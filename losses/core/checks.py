"""Checks of arguments that several losses share."""

import dataclasses
import math
from typing import Any

from losses.core.loss import Loss
from losses.core.term_values import wants_means


def check_inner(outer: Loss, loss: Loss) -> None:
    """Refuse a loss that cannot be inside `outer`.

    Raises:
      ValueError: it is no loss, reads no logits, or wants means over the batch.
    """
    name = type(outer).__name__
    if not isinstance(loss, Loss):
        raise ValueError(f"loss of {name} must be a loss that is made, got {loss!r}")
    kind = type(loss)
    if "logits" not in loss.needs:
        raise ValueError(
            f"loss of {name} must read logits, and {kind.__name__} does not"
        )
    if wants_means(loss):
        raise ValueError(
            f"loss of {name} must see each token by itself, and {kind.__name__} wants "
            f"means over the batch"
        )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
      ValueError: it is none; the message lists them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_finite(node: Any) -> None:
    """Refuse a dataclass with a number that is not finite.

    Raises:
      ValueError: with the field.
    """
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f"{field.name} of {type(node).__name__} must be finite, got {value}"
            )
