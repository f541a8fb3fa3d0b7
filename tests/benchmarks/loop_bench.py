"""Step time of the whole loop over that of the same compiled step in a bare `for`.

    make bench ONLY=loop

Pairs in one process, in turn, so that a busy machine slows both. The loop makes its
batches, reads every step's metrics, logs every tenth and looks for signals; the bare
`for` is given its batches. The target: at most 1.02 at a step of 50 ms.
"""

import io
import statistics
import tempfile
import time
from pathlib import Path

import jax

from runner.checkpoint.checkpoints import Checkpoints
from runner.cli import command_graph, flags
from runner.graph import build
from runner.machine.stop_signals import Stop
from runner.train import loop
from runner.train.actions.log import log
from runner.train.actions.progress import Progress
from runner.train.actions.stop_on_nan import stop_on_nan
from runner.train.hooks import Hooks
from runner.train.setup import Setup
from runner.workdir.workdir import Workdir
from runner.writers.terminal import Terminal

STEPS, ROUNDS, TARGET = 40, 9, 1.02
OBSERVERS = (stop_on_nan, log, Progress)
EXPERIMENT = [
    "--fdl_config=configs/dense.py",
    "--fdl.student.dim=96",
    "--fdl.student.num_layers=2",
    "--fdl.train_data.sequence_length=64",
    "--fdl.evaluations=[]",
    f"--fdl.num_steps={STEPS}",
    "--print_config",
]


def main() -> None:
    """Times bare and looped steps in turn."""
    ready = build.objects(command_graph.resolve(flags.parse(EXPERIMENT))).prepare()
    with ready.batches(start=0) as stream:
        batches = [next(stream) for _ in range(8)]
    bare(ready, batches)  # compiles
    rounds = [(bare(ready, batches), looped(ready)) for _ in range(ROUNDS)]
    ratios = [whole / plain for plain, whole in rounds]
    step = statistics.median(plain for plain, _ in rounds) / STEPS
    spread = f"({min(ratios):.3f} - {max(ratios):.3f})"
    print(f"bare step    {1e3 * step:6.1f} ms")
    print(f"loop / bare  {statistics.median(ratios):6.3f} {spread}")
    print(f"medians of {ROUNDS} pairs of {STEPS} steps")
    print(f"target: a ratio of {TARGET} or less")


def bare(ready: Setup, batches: list) -> float:
    """Seconds of the steps alone."""
    leaves = jax.block_until_ready(jax.tree.leaves(ready.initial_state()))
    begin = time.perf_counter()
    for step in range(STEPS):
        leaves, _ = ready.step(leaves, batches[step % len(batches)])
    jax.block_until_ready(leaves)
    return time.perf_counter() - begin


def looped(ready: Setup) -> float:
    """Seconds of the same steps in the runner's loop, nothing saved at the end."""
    state = jax.block_until_ready(ready.initial_state())
    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(Path(folder) / "checkpoints", keep=1) as checkpoints,
    ):
        workdir, terminal = Workdir(Path(folder)), Terminal(io.StringIO())
        hooks = Hooks(
            ready, workdir, checkpoints, terminal, start=0, factories=OBSERVERS
        )
        begin = time.perf_counter()
        state = loop.run(ready, state, hooks, Stop())
        jax.block_until_ready(jax.tree.leaves(state))
        seconds = time.perf_counter() - begin
        hooks.close()
    return seconds


if __name__ == "__main__":
    main()
