"""Metric writers, behind CLU's `MetricWriter` interface.

writer = writers.create(workdir, start_step=0, terminal=Terminal())
writer.write_scalars(10, {"learning/ce": 6.2})
writer.write_texts(10, {"samples/0": "The module ..."})
"""

from pathlib import Path

import jax

from runner.writers.clu import SummaryWriter, metric_writers
from runner.writers.console import ConsoleWriter
from runner.writers.json_lines import JsonLinesWriter, read, truncate_after
from runner.writers.terminal import Terminal

MetricWriter = metric_writers.MetricWriter
MultiWriter = metric_writers.MultiWriter

__all__ = [
    "ConsoleWriter",
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
) -> MultiWriter:
    """Return a run's writers in one: TensorBoard, JSON lines, console, W&B.

    `start_step` is the step the run continues after; what earlier attempts wrote of
    later steps is removed, so that the files tell one story. Only the first process
    of a multi-host run writes.

    Raises: UserError if `wandb_project` is set and wandb is not installed.
    """
    if jax.process_index() != 0:
        return MultiWriter([])
    workdir = Path(workdir)
    writers: list[MetricWriter] = []
    if wandb_project:  # First: a missing package should leave nothing behind.
        from runner.writers.wandb import WandbWriter

        writers.append(WandbWriter(workdir, project=wandb_project))
    writers += [
        JsonLinesWriter(workdir / "metrics.jsonl", start_step=start_step),
        SummaryWriter(str(workdir / "events"), start_step=start_step),
        ConsoleWriter(terminal or Terminal(), texts=show_texts),
    ]
    return MultiWriter(writers)
