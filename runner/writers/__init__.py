"""Metric writers, behind CLU's `MetricWriter` interface.

writer = writers.create(workdir, start_step=0, terminal=Terminal())
writer.write_scalars(10, {"learning/ce": 6.2})
writer.write_texts(10, {"samples/0": "The module ..."})
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import jax

from runner.hooks.run_writer import RunWriter
from runner.writers import parameters
from runner.writers.clu import SummaryWriter, metric_writers
from runner.writers.console import ConsoleWriter
from runner.writers.json_lines import JsonLinesWriter, read, truncate_after
from runner.writers.own import OwnWriter
from runner.writers.terminal import Terminal
from runner.writers.tolerant import Failures, TolerantWriter

MetricWriter = metric_writers.MetricWriter
MultiWriter = metric_writers.MultiWriter

__all__ = [
    "ConsoleWriter",
    "Failures",
    "JsonLinesWriter",
    "MetricWriter",
    "MultiWriter",
    "SummaryWriter",
    "create",
    "read",
    "truncate_after",
]


def create(
    workdir: str | Path,
    *,
    start_step: int = 0,
    wandb_project: str = "",
    terminal: Terminal | None = None,
    show_texts: bool = True,
    failures: Failures | None = None,
    own: Sequence[RunWriter] = (),
    results: Sequence[str] = (),
) -> MultiWriter:
    """Return a run's writers in one: TensorBoard, JSON lines, console, W&B, own.

    `start_step` is the step the run continues after; what earlier attempts wrote of
    later steps is removed, so that the files tell one story. Only the first process
    of a multi-host run writes. `results` are the metrics that TensorBoard shows beside
    the graph's parameters.

    What cannot be written is noted in `failures` and tried again; no call raises.

    Raises: UserError if `wandb_project` is set and wandb is not installed.
    """
    if jax.process_index() != 0:
        return MultiWriter([])
    workdir, terminal = Path(workdir), terminal or Terminal()
    failures = failures or Failures(terminal)
    writers: list[MetricWriter] = []

    def add(writer: MetricWriter, name: str) -> None:
        writers.append(TolerantWriter(writer, name=name, failures=failures))

    if wandb_project:  # First: a missing package should leave nothing behind.
        from runner.writers.wandb import WandbWriter

        add(WandbWriter(workdir, project=wandb_project), "wandb")
    metrics = workdir / "metrics.jsonl"
    add(JsonLinesWriter(metrics, start_step=start_step), metrics.name)
    events = workdir / "events"
    add(SummaryWriter(str(events), start_step=start_step, results=results), events.name)
    if start_step < 0 and (graph := parameters.read_text(workdir)):
        writers[-1].write_hparams(parameters.parse(graph))
        # Four spaces: TensorBoard reads texts as Markdown.
        writers[-1].write_texts(0, {"config": textwrap.indent(graph, "    ")})
    for writer in own:
        add(OwnWriter(writer, workdir, start_step=start_step), type(writer).__name__)
    writers.append(ConsoleWriter(terminal, texts=show_texts))
    return MultiWriter(writers)
