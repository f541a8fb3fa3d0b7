"""What the host does for one step: hand 300 leaves to the device, and read what came.

    make bench ONLY=dispatch

Processor time of the calling thread, medians; the device has next to nothing to do. The
step is the runner's, over a model of 100 small parameters and Adam's two moments of
each. Beside it: what `jax.jit` takes for as many leaves and no step at all, the floor;
`nnx.jit` over the same model and optimiser; and the runner's whole loop, which also
makes batches, reads every step's metrics, logs every tenth and looks for signals.
The target: 0.3 ms for the step.
"""

import functools
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import losses
from models.base import Batch, Model, TrunkOutput
from runner import data
from runner.checkpoint.checkpoints import Checkpoints
from runner.experiment import Experiment
from runner.machine.stop_signals import Stop
from runner.train import loop
from runner.train.actions.log import log
from runner.train.actions.progress import Progress
from runner.train.actions.stop_on_nan import stop_on_nan
from runner.train.hooks import Hooks
from runner.train.setup import Setup
from runner.workdir.workdir import Workdir
from runner.writers.terminal import Terminal

PARAMETERS, WIDTH, STEPS, ROUNDS, TARGET = 100, 8, 100, 9, 0.3
OBSERVERS = (stop_on_nan, log, Progress)
TEXT = "A loss answers with one value per token, and divides by nothing at all. " * 99


class Many(Model):
    """Many parameters that do next to nothing."""

    def __init__(self, *, rngs: nnx.Rngs, num_outputs: int):
        del rngs
        self.dim, self.num_outputs = WIDTH, num_outputs
        self.vectors = nnx.List(
            [nnx.Param(jnp.zeros(WIDTH)) for _ in range(PARAMETERS - 1)]
        )
        self.matrix = nnx.Param(jnp.zeros((WIDTH, num_outputs)))

    def trunk(
        self, batch: Batch, *, capture: frozenset[str] = frozenset(), remat="none"
    ) -> TrunkOutput:
        """The sum of the vectors, everywhere."""
        del capture, remat
        hidden = functools.reduce(jnp.add, [v.get_value() for v in self.vectors])
        shape = (*batch["targets"].shape, WIDTH)
        return TrunkOutput(hidden=jnp.broadcast_to(hidden, shape), intermediates={})

    def head(self, hidden: jax.Array) -> jax.Array:
        """A product."""
        return hidden @ self.matrix.get_value()

    def offers(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()


class Milliseconds(NamedTuple):
    """Of one step: the calling thread's processor, and the clock until it returns."""

    thread: float
    wall: float


def main() -> None:
    """Times all ways in turn, so that a busy machine is busy for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        job = experiment(Path(folder))
        ready = job.prepare()
        with ready.batches(start=0) as stream:
            batch = next(stream)
        leaves = len(jax.tree.leaves(ready.step.state))
        ways = {
            "runner's step": step(ready, batch),
            "floor: jax.jit": floor(ready),
            "nnx.jit": through_nnx(job, batch),
            "runner's loop": functools.partial(looped, ready, Path(folder)),
        }
        for way in ways.values():
            way()  # compiles
        rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    print(f"{f'ms a step, {leaves} leaves':<24}{'thread, (min - max)':>22}{'wall':>8}")
    medians = {}
    for name in ways:
        thread = [times[name].thread for times in rounds]
        wall = statistics.median(times[name].wall for times in rounds)
        medians[name] = statistics.median(thread)
        spread = f"{medians[name]:.2f} ({min(thread):.2f} - {max(thread):.2f})"
        print(f"{name:<24}{spread:>22}{wall:>8.2f}")
    ours = medians["runner's step"]
    met = "met" if ours <= TARGET else "MISSED"
    print(f"runner's step: {ours:.2f} ms, target {TARGET} ms: {met}")
    print(f"runner's step over the floor: {ours / medians['floor: jax.jit']:.2f}")
    print(f"nnx.jit over the runner's step: {medians['nnx.jit'] / ours:.0f}")


def experiment(folder: Path) -> Experiment:
    """`Many`, cross-entropy and Adam over a few lines of text."""
    (folder / "text.txt").write_text(TEXT)
    documents = data.TextFiles(files=[str(folder / "text.txt")])
    return Experiment(
        student=functools.partial(Many, num_outputs=300),
        losses=[losses.LossTerm(name="ce", loss=losses.CrossEntropy())],
        train_data=data.TokenizedText(
            documents=documents,
            tokenizer=data.ByteBPE(documents=documents, vocab_size=300),
            sequence_length=8,
        ),
        optimizer=optax.adamw(1e-3),
        num_steps=STEPS,
        batch_size=2,
    )


def timed(call: Callable[[], Any]) -> Milliseconds:
    """The median call, the device idle before each."""
    thread, wall = [], []
    for _ in range(STEPS):
        begin, since = time.thread_time(), time.perf_counter()
        result = call()
        thread.append(time.thread_time() - begin)
        wall.append(time.perf_counter() - since)
        jax.block_until_ready(result)
    return Milliseconds(1e3 * statistics.median(thread), 1e3 * statistics.median(wall))


def step(ready: Setup, batch: Batch) -> Callable[[], Milliseconds]:
    """The compiled step, as the loop calls it."""
    leaves = jax.tree.leaves(ready.initial_state())

    def call() -> Any:
        nonlocal leaves
        leaves, metrics = ready.step(leaves, batch)
        return leaves, metrics

    return functools.partial(timed, call)


def floor(ready: Setup) -> Callable[[], Milliseconds]:
    """As many leaves in and out, donated, with one addition each."""
    leaves = jax.tree.leaves(ready.initial_state())
    add = jax.jit(lambda leaves: [x + 1 for x in leaves], donate_argnums=0)

    def call() -> Any:
        nonlocal leaves
        leaves = add(leaves)
        return leaves

    return functools.partial(timed, call)


def through_nnx(job: Experiment, batch: Batch) -> Callable[[], Milliseconds]:
    """The same model, loss and optimiser as modules."""
    model = job.student(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, job.optimizer, wrt=nnx.Param)

    def loss(model: Model, batch: Batch) -> jax.Array:
        logits = model.head(model.trunk(batch).hidden)
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, batch["targets"]
        ).mean()

    @functools.partial(nnx.jit, donate_argnums=(0, 1))
    def update(model: Model, optimizer: nnx.Optimizer, batch: Batch) -> jax.Array:
        value, gradients = nnx.value_and_grad(loss)(model, batch)
        optimizer.update(model, gradients)
        return value

    return functools.partial(timed, lambda: update(model, optimizer, batch))


def looped(ready: Setup, folder: Path) -> Milliseconds:
    """All of `loop.run`, nothing saved or evaluated at the end."""
    state = jax.block_until_ready(ready.initial_state())
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        workdir, terminal = Workdir(folder), Terminal(io.StringIO())
        hooks = Hooks(
            ready, workdir, checkpoints, terminal, start=0, factories=OBSERVERS
        )
        begin, since = time.thread_time(), time.perf_counter()
        loop.run(ready, state, hooks, Stop())
        thread, wall = time.thread_time() - begin, time.perf_counter() - since
        hooks.close()
    return Milliseconds(1e3 * thread / STEPS, 1e3 * wall / STEPS)


if __name__ == "__main__":
    main()
