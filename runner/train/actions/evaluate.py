"""The hook that evaluates the student."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from runner.evaluation.evaluator import gap_closed
from runner.files import form
from runner.train.actions.context import HookContext
from runner.train.actions.periodic import StateHook


@dataclasses.dataclass(frozen=True)
class _Memory:
    untrained: Mapping[str, float]


class Evaluate(StateHook):
    """Writes `<evaluation>/<metric>` of every evaluation.

    Before the first step and after the last, whatever `loop.evaluate_every` is: tables
    show these two, and what is no part of the graph must not move them. The one that
    the best checkpoint is chosen by is there whenever it is chosen, of all rows.
    """

    def __init__(self, context: HookContext):
        super().__init__(
            self._write,
            every=context.config.loop.evaluate_every,
            last=context.num_steps,
            start=context.start or -1,
            pause=context.pause("evaluating"),
        )
        self._context = context
        self._untrained: dict[str, float] = {}

    def due(self, step: int) -> bool:
        """Return whether a call after `step` will evaluate."""
        return self._due_all(step) or (step > self._latest and self._chooses(step))

    def on_end(self, step: int, *, state: Any) -> None:
        """Evaluate all rows of what was not measured on all of them at this step."""
        whole = {
            name
            for name, metrics in self._context.results.evaluations.items()
            if self._latest == step and metrics.get("share", 1.0) == 1.0
        }
        left = [name for name in self._context.evaluations if name not in whole]
        self._measure(step, state, left, whole=True)

    def memory(self) -> Any:
        """Return the losses before the first step, of which gaps are shares."""
        return {"untrained": self._untrained} if self._untrained else None

    def recall(self, memory: Any) -> None:
        """Go on from them."""
        self._untrained = dict(form.parse(_Memory, memory).untrained)

    def _gap(
        self, name: str, step: int, metrics: Mapping[str, float]
    ) -> dict[str, float]:
        """Return the share of the gap to the teacher, of all rows, by its name."""
        if metrics.get("share", 1.0) < 1.0 or "teacher/loss" not in metrics:
            return {}
        if step == 0:
            self._untrained[name] = metrics["loss"]
        if name not in self._untrained:
            return {}
        closed = gap_closed(
            metrics["loss"],
            start=self._untrained[name],
            teacher=metrics["teacher/loss"],
        )
        return {} if closed is None else {"gap_closed": closed}

    def _due_all(self, step: int) -> bool:
        return super().due(step) or (step == 0 and self._latest < 0)

    def _chooses(self, step: int) -> bool:
        rule = self._context.keep_best
        return rule is not None and rule.due(step, self._context.num_steps)

    def _write(self, step: int, *, state: Any) -> None:
        rule = self._context.keep_best
        chosen = rule.evaluation if rule and self._chooses(step) else ""
        every = self._context.evaluations if self._due_all(step) else ()
        for name in self._context.evaluations:
            if name == chosen or name in every:
                self._measure(step, state, [name], whole=name == chosen)

    def _measure(
        self, step: int, state: Any, names: Sequence[str], *, whole: bool
    ) -> None:
        context = self._context
        for name in names:
            measure = context.evaluations[name]
            values = measure(state, whole=True) if whole else measure(state)
            metrics = {k: float(v) for k, v in values.items()}
            metrics |= self._gap(name, step, metrics)
            context.results.evaluations[name] = metrics
            scalars = {f"{name}/{metric}": value for metric, value in metrics.items()}
            context.writer.write_scalars(step, scalars)
