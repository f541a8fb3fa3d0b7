"""Loss terms: a loss with a name, a weight and a mask; groups of terms."""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from losses.core.loss import Loss
from losses.core.masks import Mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossTerm:
    """A loss with a name, a weight and the tokens it counts.

    Attributes:
      name: an identifier; metrics are logged under it.
      loss: one value per token. One that owns parameters is a function that builds it.
      weight: a float, a function of the optimiser step (any optax schedule), or a
        `losses.Balance`. At weight 0 the term adds nothing to value and gradient,
        whatever its values are.
      mask: of a batch, the tokens that the term counts, bool `[*b]`; None for
        `Loss.default_mask`.
      token_weight: of `Outputs`, float `[*b]`; or a `losses.Reweighting`. Multiplies
        values, never counts; gradients are stopped.

    Raises:
      ValueError: the name is no identifier, or the weight is of no such kind or not
        finite.
    """

    name: str
    loss: Loss | Callable[..., Loss]
    weight: float | Callable[..., Any] = 1.0
    mask: Mask | None = None
    token_weight: Callable[..., Any] | None = None

    def __post_init__(self):
        check_name(self.name, "term")
        check_weight(self.name, self.weight)
        # A loss that is yet to be built has its mask once it is.
        if self.mask is None and isinstance(self.loss, Loss):
            object.__setattr__(self, "mask", self.loss.default_mask)

    @staticmethod
    def derived_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults that depend on other fields.

        Args:
          fields: those that are set; a class, or a partial of one, stands for what it
            will build.
        """
        loss = fields.get("loss")
        kind = loss.func if isinstance(loss, functools.partial) else loss
        mask = getattr(kind, "default_mask", None)
        # One around another loss has that one's.
        return {"mask": None if isinstance(mask, property) else mask}

    @property
    def needs(self) -> frozenset[str]:
        """Needs of the loss, and of its token weights."""
        assert isinstance(self.loss, Loss)  # built, if it owns parameters
        return self.loss.needs | getattr(self.token_weight, "needs", frozenset())


def check_name(name: str, kind: str) -> None:
    """Refuse a name of a term or group (`kind`) that is no identifier.

    Raises:
      ValueError: it is none.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"a {kind}'s name must be an identifier, got {name!r}")


def check_weight(name: str, weight: object) -> None:
    """Refuse a weight that is neither a finite number nor callable.

    Raises:
      ValueError: it is neither; the message names its term or group.
    """
    if callable(weight):
        return
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise ValueError(
            f"weight of {name!r} must be a number or a function of the step, "
            f"got {weight!r}"
        )
    if not math.isfinite(weight):
        raise ValueError(f"weight of {name!r} must be finite, got {weight!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """`weight · Σ_i w_i L_i` over its terms and the groups in it.

    Attributes:
      name: an identifier; metrics are logged under it.
      terms: terms and groups.
      weight: as of a `LossTerm`.

    Raises:
      ValueError: the name is no identifier, the weight is of no such kind or not
        finite, or there are no terms.
    """

    name: str
    terms: Sequence["LossTerm | Group"]
    weight: float | Callable[..., Any] = 1.0

    def __post_init__(self):
        check_name(self.name, "group")
        check_weight(self.name, self.weight)
        if not self.terms:
            raise ValueError(f"group {self.name!r} must hold at least one term")


Item = LossTerm | Group


def flat_terms(items: Sequence[Item]) -> list[LossTerm]:
    """Return the terms, those in groups too, in their order."""
    return [item for item in all_items(items) if isinstance(item, LossTerm)]


def all_items(items: Sequence[Item]) -> list[Item]:
    """Return terms and groups; a group before its items."""
    flat: list[Item] = []
    for item in items:
        flat.append(item)
        if isinstance(item, Group):
            flat.extend(all_items(item.terms))
    return flat


def check_names(items: Sequence[Item]) -> None:
    """Refuse terms and groups that share a name, under which both would be logged.

    Raises:
      ValueError: two share the name in the message.
    """
    names = collections.Counter(item.name for item in all_items(items))
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"two loss terms or groups are named {name!r}")
