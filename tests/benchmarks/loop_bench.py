"""Step time of the whole loop over that of the same compiled step in a bare `for`.

    make bench ONLY=loop

Pairs in one process, so that a busy machine slows both. The loop reads every step's
metrics, logs every tenth, makes its batches and looks for signals; the bare `for` is
given its batches. Goal: a ratio of at most 1.02 at a step of 50 ms.
"""

import io
import statistics
import tempfile
import time
from pathlib import Path

import jax

from runner import flags, loop
from runner.agenda import Agenda
from runner.checkpoints import Checkpoints
from runner.graph import base, build
from runner.prepared import Prepared, prepare
from runner.progress import Terminal
from runner.signals import Stop
from runner.workdir import Workdir

STEPS, ROUNDS = 60, 9
OVERRIDES = [
    "--fdl_config=configs/dense.py",
    "--fdl.student.dim=64",
    "--fdl.student.num_layers=2",
    "--fdl.train_data.sequence_length=64",
    "--fdl.evaluations=[]",
    "--gin.step.token_block=256",
    f"--fdl.num_steps={STEPS}",
    "--print_config",
]


def prepared() -> Prepared:
    return prepare(build.job(base.resolve(flags.parse(OVERRIDES))))


def bare(ready: Prepared, batches: list) -> float:
    leaves = jax.tree.leaves(ready.initial())
    jax.block_until_ready(leaves)
    begin = time.perf_counter()
    for step in range(STEPS):
        leaves, _ = ready.step(leaves, batches[step % len(batches)])
    jax.block_until_ready(leaves)
    return time.perf_counter() - begin


def looped(ready: Prepared, folder: Path) -> float:
    state = jax.block_until_ready(ready.initial())
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)
    terminal = Terminal(io.StringIO())
    agenda = Agenda(ready, Workdir(folder), checkpoints, terminal, start=0)
    agenda._on_state = []
    begin = time.perf_counter()
    state = loop.run(ready, state, agenda, Stop())
    jax.block_until_ready(jax.tree.leaves(state))
    seconds = time.perf_counter() - begin
    agenda.close()
    return seconds


def main() -> None:
    ready = prepared()
    with ready.batches(start=0) as stream:
        batches = [next(stream) for _ in range(8)]
    bare(ready, batches)
    ratios, steps = [], []
    for _ in range(ROUNDS):
        plain = bare(ready, batches)
        with tempfile.TemporaryDirectory() as folder:
            whole = looped(ready, Path(folder))
        ratios.append(whole / plain)
        steps.append(plain / STEPS)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"bare step     {1e3 * statistics.median(steps):8.1f} ms")
    print(f"loop / bare   {statistics.median(ratios):8.3f}    ({spread})")
    print(f"              median of {ROUNDS} pairs of {STEPS} steps; goal at most 1.02")


if __name__ == "__main__":
    main()
