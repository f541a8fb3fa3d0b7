"""The hook that says, once, what of the terms goes on without a word otherwise."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from losses.core.terms import LossTerm, all_items, flat_terms
from losses.weighting.weights import balances
from runner.files import form
from runner.train.actions.context import HookContext
from runner.train.actions.periodic import MetricsHook
from runner.train.actions.stop_on_nan import unused
from runner.writers.console import NOTICES

FIRST_STEPS = 10
"""Steps after which a term that has counted nothing is named."""


@dataclasses.dataclass(frozen=True)
class _Memory:
    counted: Sequence[str]
    announced: Sequence[str]


class Notices(MetricsHook):
    """Writes `notices/<subject>`, each once a run: on the terminal and in the report.

    * A term that has counted no token in the first steps: its mask holds nowhere, or
      its token weights or values are exactly 0.
    * A balance that skipped a batch (`losses.Balance.skips`).
    * A term of weight 0 whose value is not finite.
    """

    def __init__(self, context: HookContext):
        """Look at every step's metrics."""
        super().__init__(self._look, every=1, start=context.start)
        self._terms = flat_terms(context.items)
        self._balances = balances(context.items)
        self._names = [item.name for item in all_items(context.items)]
        self._last = min(FIRST_STEPS, context.num_steps)
        self._writer = context.writer
        self._counted: set[str] = set()
        self._announced: set[str] = set()

    def memory(self) -> Any:
        """Return the terms that have counted a token, and the subjects written."""
        return {"counted": sorted(self._counted), "announced": sorted(self._announced)}

    def recall(self, memory: Any) -> None:
        """Go on from the sets at the checkpoint."""
        named = form.parse(_Memory, memory)
        self._counted, self._announced = set(named.counted), set(named.announced)

    def _look(
        self, step: int, *, metrics: Mapping[str, float], rows: Sequence[int] = ()
    ) -> None:
        del rows
        if step <= self._last:
            self._counted |= {t.name for t in self._terms if not _idle(t.name, metrics)}
        if step == self._last:
            for term in self._terms:
                if term.name not in self._counted:
                    self._say(
                        step, f"idle_{term.name}", _idle_message(term, step, metrics)
                    )
        for name, balance in self._balances.items():
            if metrics.get(f"skipped/{name}"):
                self._say(
                    step,
                    f"skipped_{name}",
                    f"weight of `{name}`: {type(balance).__name__} skips this batch: "
                    "what it reads is negative, zero or not finite; "
                    f"`skipped/{name}` is the share of such batches",
                )
        for name in self._names:
            value = metrics.get(f"learning/{name}", 0.0)
            if not math.isfinite(value) and f"learning/{name}" in unused(metrics):
                text = (
                    f"`{name}` is {value}; its weight is 0, so nothing follows from it"
                )
                self._say(step, f"not_finite_{name}", text)

    def _say(self, step: int, subject: str, text: str) -> None:
        if subject not in self._announced:
            self._announced.add(subject)
            self._writer.write_texts(step, {f"{NOTICES}{subject}": text})


def _idle(name: str, metrics: Mapping[str, float]) -> bool:
    """Return whether a term has counted nothing in a step."""
    values = [metrics.get(f"{group}/{name}", 1.0) for group in _MEANS]
    return not metrics.get(f"counts/{name}", 1.0) or 0.0 in values


_MEANS = ("learning", "weighted")


def _idle_message(term: LossTerm, step: int, metrics: Mapping[str, float]) -> str:
    """Return what a term has not counted, and why as far as this step shows it."""
    name = term.name
    if not metrics.get(f"counts/{name}", 1.0):
        mask = getattr(term.mask, "__name__", type(term.mask).__name__)
        why = f"{mask} holds at none"
    elif metrics.get(f"learning/{name}") == 0.0:
        why = "its values are exactly 0"
    else:
        explain = getattr(term.token_weight, "explain_zero", None)
        why = explain() if explain else "its token weights are 0"
    return f"`{name}` has counted no token in {step} steps: {why}"
