"""Terms that are scaled as one."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from losses.core.base import LossTerm, check_name, check_weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """`weight · Σ_i w_i L_i` over its terms and the groups in it.

    weight: as of a `LossTerm`.

    Raises:
      ValueError: the name is no identifier, the weight is of no kind there is, or there
        is nothing in it.
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


def leaves(items: Sequence[Item]) -> list[LossTerm]:
    """The terms, in the order in which they are written."""
    return [item for item in every(items) if isinstance(item, LossTerm)]


def every(items: Sequence[Item]) -> Iterator[Item]:
    """Terms and groups; a group before what is in it."""
    for item in items:
        yield item
        if isinstance(item, Group):
            yield from every(item.terms)


def check_names(items: Sequence[Item]) -> None:
    """Refuse two of one name, terms and groups alike, since the log names both.

    Raises:
      ValueError: naming it.
    """
    names = collections.Counter(item.name for item in every(items))
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"two loss terms or groups are named {name!r}")
