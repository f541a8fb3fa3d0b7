"""Means of metrics over the steps since the last log line."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from runner.files import form


@dataclasses.dataclass(frozen=True)
class _Sums:
    """Weighted sum and weight by metric."""

    sums: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


class StepMeans:
    """Running means of the metrics of several steps, by name.

    An average over tokens, `learning/<term>`, `weighted/<term>` or
    `token_weights/<term>`, weighs by the tokens of each step, `counts/<term>`:
    `Σ_steps Σ_t v / Σ_steps N`. Any other metric is a plain mean over the steps that
    have it.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, metrics: Mapping[str, float]) -> None:
        """Add the metrics of one step."""
        for name, value in metrics.items():
            weight = metrics.get(_counts_of(name), 1.0)
            total, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = total + weight * value, count + weight

    def take(self) -> dict[str, float]:
        """Return the means, and begin anew."""
        means = {
            name: total / count
            for name, (total, count) in self._sums.items()
            if count  # an average over no token has none
        }
        self._sums = {}
        return means

    def state(self) -> dict[str, Any]:
        """Return the sums as JSON, for a checkpoint."""
        return dataclasses.asdict(_Sums(self._sums))

    def restore(self, state: object) -> None:
        """Go on from a `state`.

        Raises:
          Malformed: It is of another form.
        """
        self._sums = dict(form.parse(_Sums, state).sums)


@functools.cache
def _counts_of(name: str) -> str:
    """Return the metric that counts what a metric is an average over; "" for none."""
    group, _, term = name.partition("/")
    over_tokens = group in ("learning", "token_weights", "weighted")
    return f"counts/{term}" if over_tokens else ""
