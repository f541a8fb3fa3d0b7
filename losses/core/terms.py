"""Loss terms: a loss with a name, a weight and a mask; groups of terms."""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from losses.core.loss import Loss
from losses.core.outputs import Batch


def target_mask(batch: Batch) -> jax.Array:
    """Tokens that have a target, bool `[*b]`."""
    return batch["mask"].astype(bool)


def token_mask(batch: Batch) -> jax.Array:
    """Tokens that are not padding, bool `[*b]`."""
    return batch["segment_ids"] > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossTerm:
    """A loss with a name, a weight and the tokens it counts.

    weight:       a float, a function of the optimiser step (any optax schedule), or a
                  `losses.Balance`.
    mask:         batch -> bool `[*b]`.
    token_weight: outputs -> float `[*b]`, or a `losses.Reweighting`; multiplies values,
                   never counts; gradients are stopped.

    Raises:
      ValueError: the name is no identifier, or the weight is of no such kind.
    """

    name: str
    loss: Loss | Callable[..., Loss]
    weight: float | Callable[..., Any] = 1.0
    mask: Callable[[Batch], jax.Array] = target_mask
    token_weight: Callable[..., Any] | None = None

    def __post_init__(self):
        check_name(self.name, "term")
        check_weight(self.name, self.weight)

    @property
    def needs(self) -> frozenset[str]:
        """Of the loss, and of the weights of its tokens."""
        assert isinstance(self.loss, Loss)  # made, if it owns parameters
        return self.loss.needs | getattr(self.token_weight, "needs", frozenset())


def check_name(name: str, kind: str) -> None:
    """ValueError unless `name` is an identifier; `kind` says of what."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"a {kind}'s name must be an identifier, got {name!r}")


def check_weight(name: str, weight: object) -> None:
    """ValueError unless `weight` is a number or something to call."""
    if isinstance(weight, bool) or not (
        callable(weight) or isinstance(weight, (int, float))
    ):
        raise ValueError(
            f"weight of {name!r} must be a number or a function of the step, "
            f"got {weight!r}"
        )


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


def flat_terms(items: Sequence[Item]) -> list[LossTerm]:
    """The terms, in the order in which they are written."""
    return [item for item in all_items(items) if isinstance(item, LossTerm)]


def all_items(items: Sequence[Item]) -> Iterator[Item]:
    """Terms and groups; a group before what is in it."""
    for item in items:
        yield item
        if isinstance(item, Group):
            yield from all_items(item.terms)


def check_names(items: Sequence[Item]) -> None:
    """Refuse two of one name, terms and groups alike, since the log names both.

    Raises:
      ValueError: naming it.
    """
    names = collections.Counter(item.name for item in all_items(items))
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"two loss terms or groups are named {name!r}")
