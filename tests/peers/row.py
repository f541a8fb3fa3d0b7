"""One peer's way to a loss, as the table takes it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """What every loss is given, all float32: `loss(*problem)` is a mean over N."""

    hidden: Any  # [N D]
    head: Any  # [D V]
    labels: Any  # [N]
    teacher_hidden: Any  # [N T]
    teacher_head: Any  # [T V]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A loss, and the quantity that it is measured against in float64."""

    name: str
    package: str
    loss: Callable
    target: str  # a key of tests/peers/exact.py
