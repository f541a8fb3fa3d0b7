"""Metrics of one's own: any loss, measured on held-out data and not learnt.

A metric is a class of any package with the contract of a loss: what it `needs`, a value
a token, and the mask of the tokens that count. Its `name` is that of the class in snake
case, or an attribute.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence

from flax import nnx

from losses import Loss, LossTerm
from runner.errors import UserError

PREFIX = "metric__"
"""Of the term that a metric becomes, so that it is named as none of the graph."""

_WORD_BEGINS = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"


def terms(metrics: Sequence[Loss]) -> list[LossTerm]:
    """Return a term for each metric.

    Raises:
      ValueError: One is no loss, has parameters, or shares its name.
    """
    named: dict[str, LossTerm] = {}
    for metric in metrics:
        if not isinstance(metric, Loss) or isinstance(metric, nnx.Module):
            raise ValueError(
                f"metrics must be losses without parameters, got {metric!r}"
            )
        name = name_of(metric)
        if name in named:
            raise ValueError(
                f"two metrics are named {name!r}; give one of them a `name`"
            )
        named[name] = LossTerm(name=f"{PREFIX}{name}", loss=metric)
    return list(named.values())


def name_of(metric: Loss) -> str:
    """Return the name that a metric is logged under.

    Raises:
      ValueError: It is no identifier.
    """
    name = getattr(metric, "name", None)
    if name is None:
        name = re.sub(_WORD_BEGINS, "_", type(metric).__name__).lower()
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z_]\w*", name)):
        raise ValueError(f"the name of a metric must be an identifier, got {name!r}")
    return name


def logged(term: str) -> str:
    """Return the metric that a term is logged as: `terms/kl`, `metrics/entropy`."""
    if term.startswith(PREFIX):
        return f"metrics/{term.removeprefix(PREFIX)}"
    return f"terms/{term}"


@contextlib.contextmanager
def named_in(evaluation: str) -> Iterator[None]:
    """Name metrics in errors as the graph does, not as terms."""
    try:
        yield
    except UserError as error:
        place = f"evaluations.{evaluation}.metrics."
        raise UserError(str(error).replace(f"losses.{PREFIX}", place)) from error
