"""Cost against size: one thing of a step grows, the others stay.

    make bench ONLY=costs
    make costs        # the same, and writes docs/costs.md and its pictures

The step of `configs/dense.py`, of `configs/moe.py` for experts, float32, some sizes of
one thing at a time. Tokens a second are of processor time, all cores together: medians
of 3 rounds of all sizes of a thing in turn. Memory is the compiler's, of one device:
temporaries of the step, and what it is handed (weights, optimiser, batch). Virtual
devices share the cores, so that more of them only divide the memory: each number of
them is a process.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fiddle as fdl

import losses
from configs import dense, moe
from runner import runtime
from runner.machine import heap, schedule
from tests.benchmarks import cost_pictures, timed_step

ROUNDS, MIB = 3, 2**20
Change = Callable[[fdl.Buildable, int], runtime.Runtime | None]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Sizes of one thing.

    Attributes:
      name: Of the picture.
      what: That grows, and the rest of the step.
      sizes: Of it.
      change: Makes the graph one of a size.
      config: The graph.
    """

    name: str
    what: str
    sizes: tuple[int, ...]
    change: Change
    config: Any = dense


def main() -> None:
    """Measure, print, and write where told to; all things or those named."""
    if sys.argv[1:2] == ["--devices"]:
        sizes = iter([int(sys.argv[2])])
        print(json.dumps(next(measured(SWEEPS[-1], sizes))))
        return
    names = [name for name in sys.argv[1:] if name != "--write"]
    for sweep in SWEEPS:
        if names and sweep.name not in names:
            continue
        apart = sweep.name == "devices"
        points = list(in_processes() if apart else measured(sweep, iter(sweep.sizes)))
        print(f"\n{sweep.what}")
        print(f"{'':>10}{'tokens/s':>12}{'temporaries':>16}{'arguments':>14}")
        for point in points:
            print(cost_pictures.line(point), flush=True)
        if "--write" in sys.argv:
            cost_pictures.write(sweep.name, points, sweep.what)


def measured(sweep: Sweep, sizes: Iterator[int]) -> Iterator[cost_pictures.Point]:
    """Yield the cost of each size, after rounds of all."""
    steps = {}
    for size in sizes:
        cfg = sweep.config.config.as_buildable()
        cfg.evaluations = []
        config = sweep.change(cfg, size)
        setup = fdl.build(cfg).prepare(config or runtime.Runtime())
        steps[size] = timed_step.TimedStep(setup)
        steps[size].run()
    times = timed_step.in_turn({size: step.run for size, step in steps.items()}, ROUNDS)
    for size, step in steps.items():
        tokens = step.batch["tokens"].size
        rates = [tokens / seconds for seconds in times[size]]
        memory = step.program().memory_analysis()
        yield cost_pictures.Point(
            size=size,
            tokens=tokens,
            rate=statistics.median(rates),
            slowest=min(rates),
            fastest=max(rates),
            temporaries=memory.temp_size_in_bytes / MIB,
            arguments=memory.argument_size_in_bytes / MIB,
        )


def in_processes() -> Iterator[cost_pictures.Point]:
    """Yield the cost of each number of virtual devices."""
    for size in SWEEPS[-1].sizes:
        flags = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count="
        )
        done = subprocess.run(
            [sys.executable, __file__, "--devices", str(size)],
            env=os.environ | {"XLA_FLAGS": flags + str(size)},
            capture_output=True,
            text=True,
            check=True,
        )
        yield cost_pictures.Point(*json.loads(done.stdout.splitlines()[-1]))


def row_length(cfg: fdl.Buildable, size: int) -> None:
    """Rows of a length, one document each or more."""
    cfg.train_data.sequence_length, cfg.batch_size = size, 4096 // size


def vocabulary(cfg: fdl.Buildable, size: int) -> None:
    """Entries of the head and of the embedding."""
    cfg.student.vocab_size = size


def layers(cfg: fdl.Buildable, size: int) -> None:
    """Layers of the trunk."""
    cfg.student.num_layers = size


def experts(cfg: fdl.Buildable, size: int) -> None:
    """Experts of a layer, two of them a token."""
    cfg.student.mlp.num_experts = size


def terms(cfg: fdl.Buildable, size: int) -> None:
    """Loss terms, all of the student's logits."""
    every = (
        losses.CrossEntropy,
        losses.ZLoss,
        losses.ConfidencePenalty,
        losses.UniformKL,
        losses.SmoothedCrossEntropy,
        losses.CompSum,
    )
    cfg.losses = [
        fdl.Config(losses.LossTerm, name=f"t{i}", loss=fdl.Config(loss))
        for i, loss in enumerate(every[:size])
    ]


def microbatches(cfg: fdl.Buildable, size: int) -> runtime.Runtime:
    """Microbatches of 32 rows."""
    cfg.batch_size = 32
    return runtime.Runtime(step=runtime.Step(microbatches=size))


def devices(cfg: fdl.Buildable, size: int) -> None:
    """Virtual devices along the axis of data."""
    cfg.batch_size = 32


SWEEPS = (
    Sweep(
        "row_length", "tokens a row, 4,096 a step", (128, 512, 1024, 4096), row_length
    ),
    Sweep("vocabulary", "entries, 1,024 tokens", (4096, 16384, 65536), vocabulary),
    Sweep("layers", "layers, 1,024 tokens", (2, 4, 8, 16), layers),
    Sweep("experts", "experts, 2 a token, 1,024 tokens", (4, 16, 64), experts, moe),
    Sweep("terms", "loss terms, 1,024 tokens", (1, 2, 4, 6), terms),
    Sweep("microbatches", "microbatches, 4,096 tokens", (1, 2, 4, 8), microbatches),
    Sweep("devices", "virtual devices, 4,096 tokens", (1, 2, 4, 8), devices),
)

if __name__ == "__main__":
    heap.keep_pages()
    schedule.prefer_memory(os.environ)
    main()
