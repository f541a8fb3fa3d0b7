"""A training step of ours: run by `steps.py`, answers as `torch_step.py` does."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # XLA starts a thread a core

import fiddle as fdl  # noqa: E402 - jax counts the cores when it is imported
import jax  # noqa: E402

from configs import dense, moe  # noqa: E402
from runner import runtime  # noqa: E402
from runner.machine import heap  # noqa: E402
from tests.benchmarks.timed_step import TimedStep  # noqa: E402
from tests.peers import taught  # noqa: E402


def main() -> None:
    """Serve steps until the input ends."""
    with tempfile.TemporaryDirectory(prefix="retort-peers-") as folder:
        _serve(sys.argv[1], Path(folder))


def _serve(kind: str, folder: Path) -> None:
    heap.keep_pages()
    cfg = (moe if kind == "moe" else dense).config.as_buildable()
    cfg.evaluations = []
    if kind in ("online", "offline"):
        with contextlib.redirect_stdout(sys.stderr):
            taught.teach(kind, cfg, folder)
    setup = fdl.build(cfg).prepare(runtime.Runtime())
    parameters = sum(x.size for x in jax.tree.leaves(setup.step.state.params))
    step = TimedStep(setup)
    step.run(3)
    print(f"jax {jax.__version__}, {parameters:,} parameters", flush=True)
    for line in sys.stdin:
        steps = int(line)
        print(steps * step.seconds(steps), flush=True)


if __name__ == "__main__":
    main()
