"""Declaration of the rows of a dataset that the student writes itself."""

import dataclasses
from collections.abc import Callable
from typing import Any

OWN = "own"
"""Entry of a batch, bool `[b]`: the rows that the student wrote."""

DRAWN = "own_log_probability"
"""Entry of a batch, float32 `[b T]`, where a teacher wrote too, or rows are of groups:
the log-probability that each target of these rows was drawn with, nats; 0 of others."""

_LATER = {"at_once": None, "refresh_every": 1, "teacher_share": 0.0, "group": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Choice of the rows of a batch that the student writes, and how.

    Attributes:
      fraction: Share of the rows, a number or a function of the step.
      max_new_tokens: Tokens after a prompt, at most.
      temperature: Of the draws; 0 takes the most probable token.
      top_k: As `data.OnPolicy`.
      top_p: As `data.OnPolicy`.
      prompt_tokens: As `data.OnPolicy`.
      at_once: As `data.OnPolicy`.
      refresh_every: As `data.OnPolicy`.
      teacher_share: As `data.OnPolicy`.
      group: As `data.OnPolicy`.
      vocab_size: Ids of the data; outputs of the student beyond them are not drawn.
      end: Id that ends a document.
    """

    fraction: float | Callable[[Any], Any]
    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    prompt_tokens: int | None
    at_once: int | None
    refresh_every: int
    teacher_share: float
    vocab_size: int
    end: int
    group: int = 1

    @property
    def with_log_probabilities(self) -> bool:
        """True if rows hold the log-probability that each token was drawn with."""
        return self.teacher_share > 0.0 or self.group > 1

    def describe(self) -> dict[str, Any]:
        """Return JSON values, for the work directory."""
        fields = dataclasses.asdict(self)
        for name, default in _LATER.items():
            if fields[name] == default:  # as runs began that knew of no such field
                del fields[name]
        fraction = self.fraction
        return {**fields, "fraction": "scheduled" if callable(fraction) else fraction}
