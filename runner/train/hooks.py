"""Which periodic actions a run has, in the order they act."""

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np

from runner import writers
from runner.checkpoint.checkpoints import Checkpoints
from runner.head import flops
from runner.state.train_state import TrainState
from runner.step.train_step import fetched
from runner.train import actions
from runner.train.sampling import Sampler
from runner.train.trainer import Trainer
from runner.workdir.workdir import Workdir
from runner.writers.stopwatch import Stopwatch
from runner.writers.terminal import Terminal


class Hooks:
    """The observers, which are handed every step's metrics, and the state's actions."""

    def __init__(
        self,
        trainer: Trainer,
        workdir: Workdir,
        checkpoints: Checkpoints,
        terminal: Terminal,
        *,
        start: int,
    ):
        config, last = trainer.config.loop, trainer.num_steps
        self._stopwatch = Stopwatch(announce=terminal.status)
        self._terminal = terminal
        self._checkpoints = checkpoints
        self._writer = writers.create(
            workdir.path,
            # With no checkpoint behind it, step 0 too is written again.
            start_step=start or -1,
            wandb_project=config.wandb_project,
            terminal=terminal,
            show_texts=not config.quiet,
        )
        clock: dict[str, Any] = {
            "stopwatch": self._stopwatch,
            "start": start,
            "last": last,
        }
        pace: dict[str, Any] = {
            "unit": trainer.dataset.unit,
            "units_per_step": trainer.targets_per_step,
        }
        self._observers = [
            actions.StopOnNan(terms=trainer.terms, writer=self._writer, start=start),
            actions.Log(
                self._writer,
                every=config.log_every,
                **_utilisation(trainer),
                **clock,
                **pace,
            ),
            actions.Progress(terminal, **clock, **pace),
        ]

        self.evaluate = actions.Evaluate(
            {
                name: functools.partial(trainer.evaluate, name)
                for name in trainer.evaluators
            },
            writer=self._writer,
            every=config.evaluate_every,
            **{**clock, "start": start or -1},
        )
        self.samples = actions.Samples(
            Sampler(trainer),
            writer=self._writer,
            every=config.sample_every,
            **clock,
        )
        every = trainer.config.diagnostics.every
        self.diagnose = actions.Diagnose(
            trainer.diagnose,
            writer=self._writer,
            draw=_drawn,
            say=terminal.print,
            every=every,
            **{**clock, "last": last if every else None},
        )
        self.checkpoint = actions.Checkpoint(
            checkpoints.save, every=config.checkpoint_every, **clock
        )
        self.profile = actions.Profile(
            workdir.path / "profile",
            first=config.profile_start,
            num_steps=config.profile_steps,
            start=start,
        )
        self.actions_on_state = [
            self.evaluate,
            self.samples,
            self.diagnose,
            self.checkpoint,
            self.profile,
        ]

    def announce(self, doing: str) -> None:
        """Say on the terminal what the next wait is for."""
        self._terminal.status(doing)

    def waiting_for_data(self) -> AbstractContextManager[None]:
        """Count the time in it towards the logged share of waiting."""
        return self._stopwatch.waiting()

    def observe(self, step: int, metrics: Any, rows: jax.Array) -> None:
        """Read the metrics of a dispatched step, and hand them to every observer."""
        self._checkpoints.check()
        found = fetched(metrics)
        for act in self._observers:
            act(step, metrics=found, rows=rows)

    def due(self, step: int) -> bool:
        """Whether some action wants the state after `step`."""
        return any(act.due(step) for act in self.actions_on_state)

    def on_state(self, step: int, state: TrainState) -> None:
        """Hand the state after `step` to every action that is due."""
        for act in self.actions_on_state:
            act(step, state=state)

    def close(self) -> None:
        """Flush and close what is open."""
        self.profile.close()
        self._writer.flush()
        self._writer.close()
        self._terminal.close()


def _drawn(terms: Sequence[str], cosines: np.ndarray) -> np.ndarray:
    from runner.report import heat_map  # Matplotlib: only for those who draw.

    return heat_map.pixels(terms, cosines)


def _utilisation(trainer: Trainer) -> dict[str, Any]:
    """FLOPs of a step and of the devices, where the devices' peak is known."""
    peak = flops.peak(jax.devices()[0])
    if peak is None:
        return {}
    return {
        "flops_per_step": trainer.flops_per_step(),
        "peak_flops": peak * jax.device_count(),
    }
