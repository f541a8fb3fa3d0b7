"""Rows of the table: one peer's implementation of a loss."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """Arguments of every loss, all float32: `loss(*problem)` is a mean over N."""

    hidden: Any  # [N D]
    head: Any  # [D V]
    labels: Any  # [N]
    teacher_hidden: Any  # [N T]
    teacher_head: Any  # [T V]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A loss, and the float64 quantity that it is compared with."""

    name: str
    package: str
    loss: Callable
    target: str  # a key of tests/peers/exact.py
