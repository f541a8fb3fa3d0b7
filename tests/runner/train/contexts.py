"""A hook's context without a run, a writer that remembers, a clock set by hand."""

from pathlib import Path
from typing import Any

from runner import runtime
from runner.train.actions.context import HookContext
from runner.writers.base import PartialWriter
from runner.writers.stopwatch import Stopwatch
from runner.writers.terminal import Terminal


class MemoryWriter(PartialWriter):
    """Holds all that was written, in order."""

    def __init__(self):
        self.scalars, self.texts, self.images, self.histograms = [], [], {}, {}
        self.flushes = 0

    def write_scalars(self, step, scalars):
        self.scalars.append((step, dict(scalars)))

    def write_texts(self, step, texts):
        self.texts.append((step, dict(texts)))

    def write_images(self, step, images):
        self.images |= images

    def write_histograms(self, step, arrays, num_buckets=None):
        self.histograms |= arrays

    def flush(self):
        self.flushes += 1


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, seconds=100.0):
        self.seconds = seconds

    def __call__(self):
        return self.seconds


def context(*, loop=None, diagnose_every=0, **fields) -> Any:
    """A fresh run of 12 steps that has nothing to save, sample or evaluate."""
    config = runtime.Runtime(
        loop=runtime.Loop(**(loop or {})),
        diagnostics=runtime.Diagnostics(every=diagnose_every),
    )
    defaults = {
        "workdir": Path(),
        "num_steps": 12,
        "start": 0,
        "terms": ["ce"],
        "unit": "token",
        "units_per_step": 1.0,
        "writer": MemoryWriter(),
        "stopwatch": Stopwatch(),
        "terminal": Terminal(),
        "evaluations": {},
        "sample": lambda state: [],
        "diagnose": None,
        "save": lambda step, state: None,
        "flops_per_step": lambda: 0,
    }
    return HookContext(config=config, **{**defaults, **fields})
