"""The hooks of a run, in the order in which they act."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax

from runner import writers
from runner.checkpoint.checkpoints import Checkpoints
from runner.errors import UserError
from runner.files import form
from runner.state.train_state import TrainState
from runner.step.metrics import fetch
from runner.train.actions.checkpoint import Checkpoint
from runner.train.actions.context import HookContext, Results
from runner.train.actions.diagnose import diagnose
from runner.train.actions.evaluate import Evaluate
from runner.train.actions.hook import Hook
from runner.train.actions.keep_best import KeepBest
from runner.train.actions.log import log
from runner.train.actions.notices import Notices
from runner.train.actions.profile import Profile
from runner.train.actions.progress import Progress
from runner.train.actions.samples import samples
from runner.train.actions.step_hooks import StepHooks
from runner.train.actions.stop_on_nan import stop_on_nan
from runner.train.setup import Setup
from runner.workdir.workdir import Workdir
from runner.writers.stopwatch import Stopwatch
from runner.writers.terminal import Terminal

HOOKS: Sequence[Callable[[HookContext], Hook]] = (
    stop_on_nan,
    Notices,
    log,
    Progress,
    Evaluate,
    StepHooks,
    KeepBest,
    samples,
    diagnose,
    Checkpoint,
    Profile,
)
"""Actions beside stepping. One of the project is one more line here; one of your own is
a `runner.StepHook` in `Experiment.hooks`."""


class Hooks:
    """The hooks of a run: some read every step's metrics, some the state when due.

    Attributes:
      results: Latest evaluations and samples.
    """

    def __init__(
        self,
        setup: Setup,
        workdir: Workdir,
        checkpoints: Checkpoints,
        terminal: Terminal,
        *,
        start: int,
        failures: writers.Failures | None = None,
        on_step: Callable[[], None] = lambda: None,
        memories: Mapping[str, Any] | None = None,
        factories: Sequence[Callable[[HookContext], Hook]] = HOOKS,
    ):
        """Open the writers and make every hook.

        Args:
          setup: The run.
          workdir: Holds the metrics and the profile.
          checkpoints: Where to save.
          terminal: Where to show progress.
          start: The step that the run continues after; 0 for a fresh run.
          failures: Notes files that cannot be written.
          on_step: Called once the metrics of a step are there.
          memories: Of the hooks at that step, by class, as the checkpoint holds them.
          factories: Make the hooks, in the order in which they act.

        Raises:
          UserError: A memory is malformed.
        """
        # The writers.
        loop = setup.config.loop
        self._terminal, self._checkpoints = terminal, checkpoints
        self._on_step = on_step
        self._stopwatch = Stopwatch(announce=terminal.status)
        self._writer = writers.create(
            workdir.path,
            # With no checkpoint behind it, step 0 too is written again.
            start_step=start or -1,
            wandb_project=loop.wandb_project,
            terminal=terminal,
            show_texts=not loop.quiet,
            failures=failures,
            own=setup.writers,
            results=[f"{name}/loss" for name in setup.evaluators],
        )

        # The run, as the hooks see it, and the hooks.
        self.results = Results()
        context = HookContext(
            config=setup.config,
            workdir=workdir.path,
            num_steps=setup.num_steps,
            start=start,
            terms=setup.terms,
            items=setup.modules.items,
            unit=setup.dataset.unit,
            units_per_step=setup.targets_per_step,
            writer=self._writer,
            stopwatch=self._stopwatch,
            terminal=terminal,
            evaluations={
                name: functools.partial(
                    setup.evaluate,
                    name,
                    progress=functools.partial(terminal.progress, name),
                )
                for name in setup.evaluators
            },
            sample=setup.sample,
            diagnose=setup.diagnose,
            save=self._save,
            flops_per_step=setup.flops_per_step,
            results=self.results,
            keep_best=setup.keep_best,
            step_hooks=setup.hooks,
        )
        self._hooks = [factory(context) for factory in factories]
        self._recall(start, memories or {})
        self._on_metrics = [hook for hook in self._hooks if hook.reads == "metrics"]
        self._on_state = [hook for hook in self._hooks if hook.reads == "state"]

    def _recall(self, start: int, memories: Mapping[str, Any]) -> None:
        try:
            for hook in self._hooks:
                if memory := memories.get(type(hook).__name__):
                    hook.recall(memory)
        except form.Malformed as error:
            raise UserError(f"checkpoint of step {start}: {error}") from None

    def _save(self, step: int, state: TrainState) -> None:
        """Save a checkpoint, with what the hooks go on from."""
        memories = {type(hook).__name__: hook.memory() for hook in self._hooks}
        memories = {name: memory for name, memory in memories.items() if memory}
        self._checkpoints.save(step, state, memories=memories)

    def announce(self, doing: str) -> None:
        """Name on the terminal what the next wait is for."""
        self._terminal.status(doing)

    def waiting_for_data(self) -> AbstractContextManager[None]:
        """Count the time in it towards the logged share of waiting."""
        return self._stopwatch.waiting()

    def observe(self, step: int, metrics: Any, rows: jax.Array) -> None:
        """Fetch the metrics of a dispatched step, and call the hooks that read them."""
        self._checkpoints.check()
        values = self.results.metrics = fetch(metrics)
        self._on_step()
        for hook in self._on_metrics:
            hook(step, metrics=values, rows=rows)

    def due(self, step: int) -> bool:
        """Return whether some hook reads the state after `step`."""
        return any(hook.due(step) for hook in self._on_state)

    def on_state(self, step: int, state: TrainState) -> None:
        """Call the hooks that read the state; each acts if it is due."""
        for hook in self._on_state:
            hook(step, state=state)

    def on_stop(self, step: int, state: TrainState) -> None:
        """Tell every hook that a signal ends the run after `step`."""
        for hook in self._hooks:
            hook.on_stop(step, state=state)

    @property
    def ended(self) -> bool:
        """True if some hook ends the run here, whatever steps are left."""
        return any(hook.ended for hook in self._hooks)

    def on_end(self, step: int, state: TrainState) -> None:
        """Tell every hook that the run ends after `step`, before its last one."""
        for hook in self._hooks:
            hook.on_end(step, state=state)

    def close(self) -> None:
        """Flush and close what is open."""
        for hook in self._hooks:
            hook.close()
        self._writer.flush()
        self._writer.close()
        self._terminal.close()
