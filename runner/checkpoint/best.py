"""The best step of a run, in the memories of its checkpoints."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from runner.files import form

MEMORY = "KeepBest"
"""The name of the memory."""


@dataclasses.dataclass(frozen=True)
class Best:
    """The best measurement of a run until a checkpoint.

    Attributes:
      step: After which the metric was best; None before any finite value.
      metrics: Of its evaluation at that step.
      stale: Measurements since then, none of them better.
    """

    step: int | None = None
    metrics: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    stale: int = 0


def of_memories(memories: Mapping[str, Any]) -> Best | None:
    """Return the best that memories of a checkpoint name; None if they have none.

    Raises:
      Malformed: It is of another form.
    """
    memory = memories.get(MEMORY)
    return None if memory is None else form.parse(Best, memory)
