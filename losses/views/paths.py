"""Paths of the outputs of a view among the student's intermediates."""

import re

from jaxtyping import Array, Float

from losses.core.loss import Loss
from losses.core.outputs import Outputs

_WORD_BEGINS = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"


def path_on(view: str, path: str) -> str:
    """Return the path of a student's intermediate, or of its logits, on a view.

    Args:
      view: its name; "" for the batch itself.
      path: without a view.
    """
    return f"view/{view}/{path}" if view else path


def logits_on(outputs: Outputs, view: str) -> Float[Array, "*b v"]:
    """Return the student's logits on a view; "" for the batch itself."""
    if not view:
        return outputs.logits
    return outputs.intermediate(path_on(view, "logits"))


def named(view: str, loss: Loss) -> str:
    """Return the name of a metric: `attack_cross_entropy`."""
    return f"{view}_{re.sub(_WORD_BEGINS, '_', type(loss).__name__).lower()}"


def check_view(view: str, field: str = "view") -> None:
    """Refuse the name of a view that is no identifier.

    Raises:
      ValueError: it is none.
    """
    if not view.isidentifier():
        raise ValueError(f"{field} must name a view, got {view!r}")
