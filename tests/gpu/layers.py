"""Rows of the table within one process: window, experts, evaluation.

python -m tests.gpu.layers window
"""

import functools
import sys
from collections.abc import Callable, Mapping

import fiddle as fdl
import numpy as np

import runner
from tests.benchmarks import experts_bench, timed_step
from tests.gpu import experiments, settings
from tests.gpu.data import RandomTokens


def window() -> None:
    """A step of rows of 8,192 tokens with a window of 512, over one without."""
    current = settings.current()
    shape, length = current.shape("135M"), current.length(8192)
    rows = current.rows(shape, length)
    near = 64 if current.tiny else 512
    steps = {
        name: timed_step.TimedStep(
            experiments.prepare(
                experiments.experiment(shape, length, rows=rows, window=width)
            )
        )
        for name, width in {"full": None, "window": near}.items()
    }
    _run_in_turn(
        f"step, T = {length:,}, window of {near}",
        {name: step.run for name, step in steps.items()},
        "0.3",
    )


def experts() -> None:
    """A layer of 64 experts over one of 4, two a token, in bfloat16."""
    tiny = settings.current().tiny
    layer = functools.partial(
        experts_bench.layer,
        choices=2,
        tokens=256 if tiny else 16_384,
        dim=64 if tiny else 576,
        width=64 if tiny else 1536,
        dtype="bfloat16",
    )
    _run_in_turn(
        "one layer, 64 experts over 4", {"4": layer(4), "64": layer(64)}, "1.4"
    )


def evaluation() -> None:
    """Evaluation over training, tokens a second."""
    current = settings.current()
    shape, length = current.shape("135M"), current.length(2048)
    rows = current.rows(shape, length)
    cfg = experiments.experiment(shape, length, rows=rows)
    held_out = fdl.Config(RandomTokens, shape.vocabulary, length, num_rows=rows)
    cfg.evaluations = [
        fdl.Config(runner.Evaluation, name="held_out", data=held_out, batch_size=rows)
    ]
    setup = experiments.prepare(cfg)
    step, state = timed_step.TimedStep(setup), setup.initial_state()
    _run_in_turn(
        f"training over evaluation, 135M, T = {length:,}",
        {
            "evaluation": lambda: setup.evaluators["held_out"](state, limit=1),
            "training": step.run,
        },
        "3.2 and more",
    )


def _run_in_turn(
    work: str, forms: Mapping[str, Callable[[], object]], target: str
) -> None:
    """Print the row of two forms, the second over the first."""
    for run in forms.values():
        run()
    times = timed_step.in_turn(forms, settings.current().rounds())
    base, name = forms
    cells = {n: f"{1e3 * np.median(values):.1f} ms, {n}" for n, values in times.items()}
    ratio = settings.ratio(times, name, base)
    settings.row(work, cells[name], cells[base], ratio, target)


if __name__ == "__main__":
    {"window": window, "experts": experts, "evaluation": evaluation}[sys.argv[1]]()
