"""The hook that calls those of the graph."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

from runner.errors import UserError
from runner.files import form
from runner.hooks.step_hook import StepContext, StepHook
from runner.train.actions.context import HookContext
from runner.train.actions.hook import Hook
from runner.writers.console import NOTICES


@dataclasses.dataclass(frozen=True)
class _Memory:
    hooks: Sequence[Any]
    ended: bool


class StepHooks(Hook):
    """Calls every `StepHook` that is due, in the order of the graph.

    It comes after `Evaluate`, whose results they read, and before what saves
    checkpoints, which hold their memories.
    """

    reads = "state"

    def __init__(self, context: HookContext):
        self._context, self._hooks = context, context.step_hooks
        self._latest = context.start or -1  # of a fresh run, 0 is still to come

    def due(self, step: int) -> bool:
        """Return whether some hook of the graph acts after `step`."""
        return step > self._latest and any(hook.due(step) for hook in self._hooks)

    def __call__(self, step: int, **inputs: Any) -> bool:
        """Call those that are due."""
        if not self.due(step):
            return False
        self._latest = step
        for hook in self._hooks:
            if hook.due(step):
                with self._context.stopwatch.paused("a hook of the graph"):
                    hook(self._view(hook, step, inputs["state"]))
        return True

    def memory(self) -> Any:
        """Return the memories by position; None where no hook has one."""
        memories = [self._memory(hook) for hook in self._hooks]
        if not self.ended and all(memory is None for memory in memories):
            return None
        return {"hooks": memories, "ended": self.ended}

    def recall(self, memory: Any) -> None:
        """Hand each hook its own."""
        held = form.parse(_Memory, memory)
        self.ended = held.ended
        for hook, its_own in zip(self._hooks, held.hooks, strict=False):
            if its_own is not None:
                hook.recall(its_own)

    def _view(self, hook: StepHook, step: int, state: Any) -> StepContext:
        context = self._context
        return StepContext(
            step=step,
            num_steps=context.num_steps,
            state=state,
            metrics=context.results.metrics,
            evaluations=context.results.evaluations,
            log=functools.partial(context.writer.write_scalars, step),
            save=context.requests.ask_to_save,
            stop=functools.partial(self._stop, hook, step),
        )

    def _stop(self, hook: StepHook, step: int, reason: str) -> None:
        self.ended = True
        text = f"{type(hook).__name__} ends the run after step {step}: {reason}"
        self._context.writer.write_texts(step, {f"{NOTICES}ended": text})

    def _memory(self, hook: StepHook) -> Any:
        memory = hook.memory()
        try:
            return json.loads(json.dumps(memory, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"hooks: the memory of {type(hook).__name__} must be JSON: {error}"
            ) from None
