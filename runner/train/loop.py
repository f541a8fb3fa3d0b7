"""The training loop: dispatch a step, read the one before it, call the hooks due."""

import io
import sys
from collections.abc import Mapping
from typing import Any

import jax

from runner.checkpoint.checkpoints import Checkpoints
from runner.machine import distributed
from runner.machine.stop_signals import Stop, StopAsked
from runner.machine.watchdog import Watchdog
from runner.starts.base import LoadedStart
from runner.state.train_state import TrainState
from runner.train import final_report, host_memory
from runner.train.actions.parameter_table import write_parameters
from runner.train.hooks import Hooks
from runner.train.repeated_step import RepeatedStep
from runner.train.setup import Setup
from runner.workdir import opening
from runner.workdir.workdir import Workdir
from runner.writers import Failures
from runner.writers.terminal import Terminal

UNWRITTEN = 3
"""Exit code of a run to its end that lacks a metric, an event or a report."""


def train(setup: Setup, workdir: Workdir) -> None:
    """Train to the end or to a signal, from the newest good checkpoint.

    The end is the last step, or an earlier one after which a hook ends the run.

    Raises:
      NotFinite: A step's metrics are not finite.
      Corrupted: A step that was run twice gave other bits.
      UserError: There are checkpoints, and none is whole; a step takes more memory than
        there is.
      SystemExit: A signal stopped it, with `Stop.exit_code`; or a file beside the
        checkpoints could not be written, with `UNWRITTEN`.
    """
    # Refuse what does not fit before the work directory says that a run has begun.
    terminal = Terminal(None if workdir.writes else io.StringIO())
    setup.trace()
    host_memory.refuse_what_is_too_large(
        setup.step.compiled, setup.abstract_arguments()
    )
    setup.check_keep_best()
    for caution in setup.cautions:
        terminal.print(caution)
    begins = not opening.has_checkpoints(workdir.path)
    loaded = setup.load_start(workdir.began_from()) if begins else None
    for line in workdir.record_start():
        terminal.print(line)
    workdir.record_data(setup.describe_data())
    workdir.record_costs(
        targets_per_step=setup.targets_per_step,
        flops_per_step=setup.flops_per_step(),
    )
    workdir.record_vocabulary(setup.dataset.vocabulary.files())

    keep = setup.config.loop.keep_checkpoints
    with (
        Watchdog(
            setup.config.watchdog, workdir.path, processes=jax.process_count()
        ) as watchdog,
        distributed.stop() as stop,
        Checkpoints(workdir.checkpoints, keep=keep) as checkpoints,
    ):
        # A run that goes on, or one that begins.
        state = setup.restore(checkpoints)
        for rejected in checkpoints.rejected:
            terminal.print(f"checkpoint {rejected.step} passed over: {rejected.reason}")
        if state is None:
            if not workdir.begin_anew:
                checkpoints.refuse_if_all_damaged()
            state, memories = _begin(setup, workdir, loaded, terminal)
        else:
            memories = checkpoints.memories(int(state.step))
            terminal.print(f"continuing after step {int(state.step)}")
        failures = Failures(terminal)
        with failures.caught("parameters.txt"):
            write_parameters(state.params["student"], workdir.path / "parameters.txt")

        start = int(state.step)
        hooks = Hooks(
            setup,
            workdir,
            checkpoints,
            terminal,
            start=start,
            failures=failures,
            memories=memories,
            on_step=watchdog.beat,
        )
        try:
            state = run(setup, state, hooks, stop)
        finally:
            hooks.close()

    if int(state.step) == setup.num_steps or hooks.ended:
        results = hooks.results
        final_report.finish(setup, workdir, state, results, terminal, failures)
        _exit_if_unwritten(failures, terminal)
    else:
        terminal.print(
            f"stopped after step {int(state.step)} of {setup.num_steps}; "
            f"go on with: {workdir.go_on}"
        )
        sys.exit(stop.exit_code)


def _begin(
    setup: Setup, workdir: Workdir, loaded: LoadedStart | None, terminal: Terminal
) -> tuple[TrainState, Mapping[str, Any]]:
    """Return the state before the first step, and the memories of the hooks."""
    loaded = loaded or setup.load_start(workdir.began_from())
    if loaded is None:
        return setup.initial_state(), {}
    workdir.record_weights(loaded.describe())
    terminal.print(loaded.summary)
    return setup.initial_state(loaded), loaded.memories


def _exit_if_unwritten(failures: Failures, terminal: Terminal) -> None:
    if failures.names:
        names = ", ".join(failures.names)
        terminal.print(f"the run is whole, but not written: {names}")
        sys.exit(UNWRITTEN)


def run(setup: Setup, state: TrainState, hooks: Hooks, stop: Stop) -> TrainState:
    """Run every step that is left, and return the state after the last one.

    `step` is the number of finished optimiser steps once the step of this iteration is.
    """
    start, last = int(state.step), setup.num_steps
    if hooks.ended:  # it had come to its end when it was saved
        return state
    hooks.on_state(start, state)
    hooks.announce("compiling")
    leaves, unread = jax.tree.leaves(state), None
    take = RepeatedStep(setup.step, every=setup.config.loop.repeat_every)
    with setup.batches(start=start) as batches:
        for step in range(start + 1, last + 1):
            try:
                with hooks.waiting_for_data(), stop.at_once():
                    batch = next(batches)
            except StopAsked:
                _stop_before(step, setup.step.unflatten(leaves), unread, hooks)
                break
            batch, written = setup.with_rollouts(leaves, batch)
            # Dispatched, not awaited: the metrics of the step before are read now.
            leaves, metrics = take(step, leaves, batch)
            metrics = {**metrics, **written}
            if unread is not None:
                hooks.observe(*unread)
            unread = step, metrics, batch["index"]

            # The state waits for its own step, whose metrics are read first.
            stopping = stop.after(step)
            if stopping or hooks.due(step):
                hooks.observe(*unread)
                unread = None
                hooks.on_state(step, setup.step.unflatten(leaves))
            if hooks.ended and step < last:
                hooks.on_end(step, setup.step.unflatten(leaves))
                break
            if stopping:
                hooks.on_stop(step, setup.step.unflatten(leaves))
                break
    return setup.step.unflatten(leaves)


def _stop_before(
    step: int, state: TrainState, unread: tuple | None, hooks: Hooks
) -> None:
    """End a run whose data does not come, after the step before `step`.

    Args:
      step: The one that waited.
      state: Before it.
      unread: Of the step before, if its metrics were not read yet.
      hooks: To tell.
    """
    if unread is not None:
        hooks.observe(*unread)
        hooks.on_state(step - 1, state)
    hooks.on_stop(step - 1, state)
