"""The training loop: dispatch a step, read the one before it, act where it is due."""

import io
import sys
from typing import TYPE_CHECKING

import jax

from runner.checkpoint.checkpoints import Checkpoints
from runner.machine import distributed
from runner.machine.stop_signals import Stop
from runner.state.trainable import TrainState
from runner.train import actions, final_report
from runner.train.hooks import Agenda
from runner.train.trainer import Prepared, prepare
from runner.workdir.workdir import Workdir
from runner.writers.terminal import Terminal

if TYPE_CHECKING:
    from runner.experiment import Experiment


def train(experiment: "Experiment", workdir: Workdir) -> None:
    """Train to the last step or to a signal, from the newest good checkpoint.

    Raises:
      UserError: data, mesh and experiment do not fit each other.
      NotFinite: a step's metrics are not finite.
      SystemExit: a signal stopped it, with `Stop.exit_code`.
    """
    terminal = Terminal(None if workdir.writes else io.StringIO())
    prepared = prepare(experiment)
    prepared.step.trace(prepared.abstract_batch())
    workdir.record_start()
    workdir.record_data(prepared.describe_data())
    workdir.record_vocabulary(prepared.dataset.vocabulary.files())
    keep = prepared.config.loop.keep_checkpoints
    with (
        distributed.stop() as stop,
        Checkpoints(workdir.checkpoints, keep=keep) as checkpoints,
    ):
        state = prepared.restored(checkpoints)
        for refused in checkpoints.refused:
            terminal.print(f"checkpoint {refused.step} passed over: {refused.reason}")
        if state is None:
            state = prepared.initial()
        else:
            terminal.print(f"continuing after step {int(state.step)}")
        actions.write_parameters(
            state.params["student"], workdir.path / "parameters.txt"
        )
        agenda = Agenda(prepared, workdir, checkpoints, terminal, start=int(state.step))
        try:
            state = run(prepared, state, agenda, stop)
        finally:
            agenda.close()
    if int(state.step) == experiment.num_steps:
        final_report.finish(prepared, workdir, state, agenda, terminal)
    else:
        terminal.print(
            f"stopped after step {int(state.step)} of {experiment.num_steps}; "
            f"go on with: runner --workdir={workdir.path}"
        )
        sys.exit(stop.exit_code)


def run(
    prepared: Prepared, state: TrainState, agenda: Agenda, stop: Stop
) -> TrainState:
    """Every step that is left; the metrics of one are read while the next runs."""
    start, last = int(state.step), prepared.experiment.num_steps
    agenda.on_state(start, state)
    agenda.announce("compiling")
    leaves, unread = jax.tree.leaves(state), None
    with prepared.batches(start=start) as batches:
        for step in range(start + 1, last + 1):
            with agenda.waiting_for_data():
                batch = next(batches)
            leaves, metrics = prepared.step(leaves, batch)
            if unread is not None:
                agenda.observe(*unread)
            unread = step, metrics, batch["index"]
            stopping = stop.after(step)
            if stopping or agenda.due(step):
                agenda.observe(*unread)
                unread = None
                agenda.on_state(step, prepared.step.unflatten(leaves))
            if stopping:
                agenda.checkpoint.force(step, state=prepared.step.unflatten(leaves))
                break
    return prepared.step.unflatten(leaves)
