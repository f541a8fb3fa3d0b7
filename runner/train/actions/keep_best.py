"""The hook that keeps the best checkpoint, and ends a run that no longer improves."""

import dataclasses
import math
from typing import Any

from runner.checkpoint import best
from runner.checkpoint.best import Best
from runner.errors import UserError, nearest
from runner.train.actions.context import HookContext
from runner.train.actions.periodic import StateHook
from runner.writers.console import NOTICES


class KeepBest(StateHook):
    """Saves the state where a held-out metric is best; see `runner.KeepBest`.

    It comes after `Evaluate`, whose results it reads, and before `Checkpoint`: a
    checkpoint of the same step holds the choice in its memory.
    """

    def __init__(self, context: HookContext):
        super().__init__(self._choose, every=0, start=context.start)
        self._context, self._rule = context, context.keep_best
        self._best = Best()
        context.results.best = self._best if self._rule else None

    @property
    def ended(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - follows from the best
        """True if patience is exhausted."""
        patience = self._rule and self._rule.patience
        return patience is not None and self._best.stale >= patience

    def due(self, step: int) -> bool:
        """Return whether the metric is measured after `step`."""
        last = self._context.num_steps
        return (
            self._rule is not None
            and step > self._latest
            and self._rule.due(step, last)
        )

    def memory(self) -> Any:
        """Return the best so far, once something was measured."""
        assert type(self).__name__ == best.MEMORY  # as the hooks name their memories
        measured = self._best != Best()
        return dataclasses.asdict(self._best) if self._rule and measured else None

    def recall(self, memory: Any) -> None:
        """Go on from the best at the checkpoint."""
        self._keep(best.of_memories({best.MEMORY: memory}) or Best())

    def on_end(self, step: int, *, state: Any) -> None:
        """Say why the run ends, where it is for this."""
        if self._rule is None or not self.ended:
            return
        value = self._best.metrics.get(self._rule.measure)
        since = (
            f"{value:.6g} at step {self._best.step}" if value is not None else "none"
        )
        self._context.writer.write_texts(
            step,
            {
                f"{NOTICES}ended": f"the run ends: {self._rule.metric} was not better "
                f"in {self._best.stale} measurements; the best is {since}"
            },
        )

    def _choose(self, step: int, *, state: Any) -> None:
        assert self._rule is not None
        metrics = self._context.results.evaluations[self._rule.evaluation]
        if self._rule.measure not in metrics:
            raise UserError(
                f"keep_best.metric: {self._rule.evaluation} has no "
                f"'{self._rule.measure}'{nearest(self._rule.measure, metrics)}"
            )
        held = self._best.metrics.get(self._rule.measure)
        if self._rule.improves(metrics[self._rule.measure], held):
            self._keep(Best(step=step, metrics=_finite(metrics)))
            self._context.save(step, state)
        else:
            self._keep(dataclasses.replace(self._best, stale=self._best.stale + 1))

    def _keep(self, choice: Best) -> None:
        self._best = self._context.results.best = choice


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Return the metrics as JSON can say them: None for what is not finite."""
    return {k: v if math.isfinite(v) else None for k, v in metrics.items()}
