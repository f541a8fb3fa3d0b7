"""The heads and losses that others publish, over optax on full logits.

    make bench-peers

Each from its own package, in an environment of its own. Value and gradients (d hidden,
d head) of 2,048 tokens, D = 256, float32; for forward KL a teacher of width 512 runs in
the same step. Rounds of all rows in turn, in one process, so that a busy machine slows
every row; ratios are of the same round. Errors are relative to float64, and measured
again with 512 tokens and a vocabulary that is no multiple of usual blocks.
"""

import contextlib
import importlib
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from runner.head import flops
from tests.peers import stand_ins
from tests.peers.exact import Result, errors, exact
from tests.peers.row import Problem, Row

TOKENS, ODD_TOKENS, DIM, TEACHER_DIM = 2048, 512, 256, 512
VOCAB, ODD_VOCAB = 131_072, 151_936
ROUNDS = 3
PEERS = {
    "optax": "optax_head",
    "maxtext": "maxtext_head",
    "tokamax": "tokamax_head",
    "google-tunix": "tunix_head",
}
BASELINES = {"ce": "ce", "ce_z": "ce", "kl": "kl"}  # of optax's rows, by target
PACKAGES = ("jax", "jaxlib", "flax", "numpy")


class Times(NamedTuple):
    """Seconds of one step: of processor, and on the clock."""

    cpu: float
    wall: float


class Step(NamedTuple):
    """A compiled step, its memory, FLOPs and error against float64."""

    run: Callable
    temporary: int
    flops: float  # over 6NDV
    error: tuple[float, float]


def main() -> None:
    stand_ins.install()
    logging.set_verbosity(logging.ERROR)
    rows, absent = load_peers()
    problem = content(VOCAB, tokens=TOKENS)
    steps = compile_rows(rows, problem, absent)
    rounds = [
        {row: time_step(step, problem) for row, step in steps.items()}
        for _ in range(ROUNDS)
    ]
    odd = compile_rows(list(steps), content(ODD_VOCAB, tokens=ODD_TOKENS), absent)
    print_table(steps, rounds, odd, absent)


def load_peers() -> tuple[list[Row], dict[str, str]]:
    """Return the rows of all peers, and reasons for absent ones by name."""
    rows, absent = [], {}
    for package, module in PEERS.items():
        imported = attempt(importlib.import_module, f"tests.peers.{module}")
        if isinstance(imported, str):
            absent[package] = imported
        else:
            rows.extend(imported.rows())
    return rows, absent


def attempt(run: Callable, *args: Any) -> Any:
    """Return `run(*args)`, or the error's first line as text."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return run(*args)
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        return f"{type(error).__name__}: {lines[0]}"


def content(vocab: int, *, tokens: int) -> Problem:
    """Unit hidden states, and heads that give logits of unit variance."""
    random = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return random.normal(scale=scale, size=shape).astype(np.float32)

    problem = Problem(
        hidden=normal(tokens, DIM),
        head=normal(DIM, vocab, scale=DIM**-0.5),
        labels=random.integers(0, vocab, tokens).astype(np.int32),
        teacher_hidden=normal(tokens, TEACHER_DIM),
        teacher_head=normal(TEACHER_DIM, vocab, scale=TEACHER_DIM**-0.5),
    )
    return jax.tree.map(jnp.asarray, problem)


def compile_rows(
    rows: list[Row], problem: Problem, absent: dict[str, str]
) -> dict[Row, Step]:
    """Return the steps of the rows that run; `absent` gets the others."""
    expected = exact(problem)
    steps = {}
    for row in rows:
        step = attempt(measure, row, problem, expected[row.target])
        if isinstance(step, str):
            absent[f"{row.package}: {row.name}, V = {problem.head.shape[1]:,}"] = step
        else:
            steps[row] = step
    return steps


def measure(row: Row, problem: Problem, expected: Result) -> Step:
    """Compile the row's step, and run it once to compare it."""

    def gradients(*problem):
        loss, grads = jax.value_and_grad(row.loss, argnums=(0, 1))(*problem)
        return loss, *grads

    run = jax.jit(gradients).lower(*problem).compile()
    (tokens, dim), vocab = problem.hidden.shape, problem.head.shape[1]
    return Step(
        run=run,
        temporary=run.memory_analysis().temp_size_in_bytes,
        flops=flops.matmul_flops(gradients, *problem) / (6 * tokens * dim * vocab),
        error=errors(run(*problem), expected),
    )


def time_step(step: Step, problem: Problem) -> Times:
    """Run one step and time it."""
    cpu, wall = time.process_time(), time.perf_counter()
    jax.block_until_ready(step.run(*problem))
    return Times(time.process_time() - cpu, time.perf_counter() - wall)


def print_table(
    steps: dict[Row, Step],
    rounds: list[dict[Row, Times]],
    odd: dict[Row, Step],
    absent: dict[str, str],
) -> None:
    """Print Markdown: ratios to optax's row of the same loss, less the z-loss."""
    print(
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f"; {os.cpu_count()} cores; {ROUNDS} rounds: median (min - max)\n"
    )
    print(
        "| package | loss | processor time | wall time | temporaries | FLOPs / 6NDV "
        f"| errors, V = {VOCAB:,}: loss, gradients | V = {ODD_VOCAB:,} |"
    )
    print("|---" * 8 + "|")
    base = {row.target: row for row in steps if row.package == "optax"}
    for row, step in steps.items():
        over = base[BASELINES[row.target]]
        share = step.temporary / steps[over].temporary
        cells = [
            f"{row.package} {version(row.package)}",
            row.name,
            *(ratio(row, over, rounds, kind) for kind in Times._fields),
            f"{share:.3f}" if row is not over else f"1 ({step.temporary >> 20:,} MiB)",
            f"{step.flops:.2f}",
            digits(step.error),
            digits(odd[row].error) if row in odd else "not run",
        ]
        print(f"| {' | '.join(cells)} |")
    for name, reason in absent.items():
        print(f"| {name} | not run: {reason} |")


def ratio(row: Row, over: Row, rounds: list[dict[Row, Times]], kind: str) -> str:
    """Format `median (min - max)` of the rounds' ratios; over itself, seconds."""
    times, others = ([getattr(t[which], kind) for t in rounds] for which in (row, over))
    if row is over:
        return f"1 ({statistics.median(times):.2f} s)"
    values = [a / b for a, b in zip(times, others, strict=True)]
    middle = statistics.median(values)
    return f"{middle:.2f} ({min(values):.2f} - {max(values):.2f})"


def digits(error: tuple[float, float]) -> str:
    return ", ".join(f"{value:.0e}" for value in error)


def version(package: str) -> str:
    return importlib.metadata.version(package)


if __name__ == "__main__":
    main()
