"""Training steps of long rows: attention in blocks, beside scores of whole rows.

    make bench ONLY=long_rows

One row a step of the student of `configs/dense.py` (dim 192, 4 layers, 4 heads, 4,096
entries), float32. Temporaries: of the whole step, by the compiler. Times: processor
time of a step, medians of 5 rounds of all forms in turn (min - max), each row one
document, but for the packed one: 8 of equal length.
"""

import contextlib
import os
import statistics
from collections.abc import Callable
from unittest import mock

import fiddle as fdl
import jax.numpy as jnp

from configs import dense
from models import masks
from runner import runtime
from runner.machine import heap, schedule
from runner.train.setup import Setup
from tests.benchmarks import timed_step

ROUNDS = 5
MEMORY_TARGET, GROWTH_TARGET = 400, 2.1  # MiB at 8,192 tokens; over 4,096


def main() -> None:
    """Print temporaries by length, then times by form."""
    heap.keep_pages()
    schedule.prefer_memory(os.environ)
    memory = {length: temporaries(length) for length in (1024, 2048, 4096, 8192)}
    whole = {n: temporaries(n, whole_rows=True) for n in (1024, 2048, 4096, 8192)}
    print("tokens a row    MiB in blocks    MiB whole")
    for length in memory:
        print(f"{length:>12,}{memory[length]:>17,.0f}{whole[length]:>13,.0f}")
    print(f"target at 8,192: {MEMORY_TARGET} MiB")
    lean = temporaries(8192, lean=True)
    print(f"stacked layers, remat full, at 8,192: {lean:,.0f} MiB")
    growth = memory[8192] / memory[4096]
    print(f"growth from 4,096: {growth:.2f}, target {GROWTH_TARGET}")

    for length, pairs in {
        2048: [("blocks", {}), ("whole", {"whole_rows": True})],
        8192: [
            ("full", {}),
            ("window of 512", {"window": 512}),
            ("8 documents", {"documents": 8}),
        ],
    }.items():
        steps = {name: step(length, **keywords) for name, keywords in pairs}
        times = timed_step.in_turn(steps, ROUNDS)
        base = times["whole" if "whole" in times else "full"]
        for name, values in times.items():
            ratios = timed_step.spread(timed_step.ratios(values, base))
            middle = statistics.median(values)
            print(f"{length:,} {name:<16}{middle:>8.2f} s {ratios}")


def setup(length: int, window: int | None = None, *, lean: bool = False) -> Setup:
    """The experiment with rows of this length, one a step."""
    cfg = dense.config.as_buildable()
    cfg.batch_size, cfg.evaluations = 1, []
    cfg.student.attention_window = window
    cfg.train_data.sequence_length = length
    config = runtime.Runtime(step=runtime.Step(remat="full" if lean else "none"))
    if lean:
        cfg.student.layers = "stacked"
    return fdl.build(cfg).prepare(config)


def temporaries(length: int, *, whole_rows: bool = False, lean: bool = False) -> float:
    """MiB of the compiled step."""
    with form(whole_rows):
        one = setup(length, lean=lean)
        lowered = one.step.compiled.lower(*one.abstract_arguments())
    return lowered.compile().memory_analysis().temp_size_in_bytes / 2**20


def step(
    length: int,
    *,
    whole_rows: bool = False,
    window: int | None = None,
    documents: int = 1,
) -> Callable[[], None]:
    """A compiled step that has run once."""
    with form(whole_rows):
        one = timed_step.TimedStep(setup(length, window))
        ids = jnp.arange(length, dtype=jnp.int32) // (length // documents)
        shape = one.batch["segment_ids"].shape
        one.batch["segment_ids"] = jnp.broadcast_to(ids, shape)
        one.run()
    return one.run


def form(whole_rows: bool) -> contextlib.AbstractContextManager:
    """Scores of whole rows while tracing, or the form that is chosen."""
    if not whole_rows:
        return contextlib.nullcontext()
    return mock.patch.object(masks, "kernel", lambda *_: masks.Kernel("whole"))


if __name__ == "__main__":
    main()
