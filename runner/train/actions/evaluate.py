"""The hook that evaluates the student."""

from typing import Any

from runner.train.actions.context import HookContext
from runner.train.actions.periodic import StateHook


class Evaluate(StateHook):
    """Writes `<evaluation>/<metric>` of every evaluation.

    Before the first step and after the last, whatever `loop.evaluate_every` is: tables
    show these two, and what is no part of the graph must not move them.
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

    def due(self, step: int) -> bool:
        """Return whether a call after `step` will evaluate."""
        return super().due(step) or (step == 0 and self._latest < 0)

    def _write(self, step: int, *, state: Any) -> None:
        context = self._context
        for name, evaluation in context.evaluations.items():
            metrics = {k: float(v) for k, v in evaluation(state).items()}
            context.results.evaluations[name] = metrics
            scalars = {f"{name}/{metric}": value for metric, value in metrics.items()}
            context.writer.write_scalars(step, scalars)
