"""The offline distillation step over a full-logits step of the same records.

    make bench ONLY=kd

Head, loss and their gradients (d hidden, d head) of 2,048 tokens, forward KL from the
64 best entries of a vocabulary of 131,072. One way is the runner's: token blocks, and
k logits gathered in each. The other scatters the k probabilities into `[tokens, V]` and
takes optax's KL to the full logits. The convention is the one where the two are equal:
probabilities renormalised over the k. Rounds of both in turn, in one process, so that a
busy machine slows both; medians.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import losses
from runner.blocks import Blocks
from runner.mesh import BATCH_AXES

TOKENS, BLOCK, DIM, VOCAB, K, ROUNDS = 2048, 128, 256, 131_072, 64, 5
MEMORY, TIME = 0.05, 0.80  # targets, of the full-logits step
TERM = losses.LossTerm(
    name="kl", loss=losses.ForwardKl(over_records="renormalise_teacher")
)


class Step(NamedTuple):
    """A compiled step and what it weighs."""

    run: Callable
    temporary: int


class Times(NamedTuple):
    """Seconds of one step: on the clock, and of processor."""

    wall: float
    cpu: float


def main() -> None:
    """Prints one table, a way a row; first holds the two to the same gradients."""
    given = content()
    steps = {"full logits": compiled(full_logits, given)}
    steps["token blocks"] = compiled(token_blocks, given)
    agree(*(step.run(*given) for step in steps.values()))
    rounds = [
        {name: timed(step, given) for name, step in steps.items()}
        for _ in range(ROUNDS)
    ]
    print(f"{'':<14}{'temporary':>12}{'wall, median (min - max)':>28}{'processor':>12}")
    for name, step in steps.items():
        wall = spread([times[name].wall for times in rounds], "s")
        cpu = statistics.median(times[name].cpu for times in rounds)
        print(f"{name:<14}{step.temporary / 2**20:>8,.0f} MiB{wall:>28}{cpu:>10.2f} s")
    full, blocks = (step.temporary for step in steps.values())
    ratios = {
        kind: [
            getattr(times["token blocks"], kind) / getattr(times["full logits"], kind)
            for times in rounds
        ]
        for kind in Times._fields
    }
    cpu = statistics.median(ratios["cpu"])
    print(
        f"{'ratio':<14}{blocks / full:>12.3f}{spread(ratios['wall']):>28}{cpu:>12.2f}"
    )
    print(f"{'target':<14}{MEMORY:>12}{TIME:>28}")


def content() -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Hidden states `[1 N D]`, a head `[D V]`, and records `[1 N ...]`."""
    random = np.random.default_rng(0)
    spacing = VOCAB // K
    ids = np.arange(K) * spacing + random.integers(0, spacing, (1, TOKENS, K))
    ids = random.permuted(ids, axis=-1)
    logits = -np.sort(random.exponential(2, ids.shape))
    records = {
        "indices": ids.astype(np.int32),
        "logits": (logits - logits[..., :1]).astype(np.float32),
    }
    records["log_normalizers"] = jax.nn.logsumexp(records["logits"], axis=-1) + 0.1
    hidden = random.normal(size=(1, TOKENS, DIM)).astype(np.float32)
    head = (random.normal(size=(DIM, VOCAB)) / np.sqrt(DIM)).astype(np.float32)
    return jax.tree.map(jnp.asarray, (hidden, head, records))


def token_blocks(hidden, head, records):
    """`(loss, d hidden, d head)` as the runner computes them."""
    devices = np.array(jax.devices()[:1]).reshape((1,) * len(BATCH_AXES))
    blocks = Blocks(
        mesh=Mesh(devices, BATCH_AXES), token_axes=hidden.shape[:2], size=BLOCK
    )

    def block(head, hidden, fixed, records):
        del fixed
        teacher = losses.TeacherOutputs(
            indices=records["indices"],
            logits=records["logits"],
            log_normalizers={1.0: records["log_normalizers"]},
        )
        outputs = losses.Outputs(batch={}, logits=hidden @ head, teacher=teacher)
        masks = {TERM.name: records["mask"]}
        found = losses.per_token([TERM], outputs, masks=masks, statistics={})
        total = jnp.sum(found[TERM.name].weighted) / TOKENS
        return total, total

    fixed = records | {"mask": jnp.ones(hidden.shape[:2], bool)}
    (loss, d_head), d_hidden = blocks.gradients(block, head, hidden, {}, fixed)
    return loss, d_hidden, d_head


def full_logits(hidden, head, records):
    """The same by a scatter into `[N V]` and optax's divergence of full logits."""

    def loss(hidden, head):
        logits = (hidden @ head)[0]
        rows = jnp.arange(TOKENS)[:, None]
        chosen = jax.nn.softmax(records["logits"][0])
        p = jnp.zeros(logits.shape).at[rows, records["indices"][0]].set(chosen)
        values = optax.losses.kl_divergence(jax.nn.log_softmax(logits), p)
        return jnp.mean(values)

    value, (d_hidden, d_head) = jax.value_and_grad(loss, argnums=(0, 1))(hidden, head)
    return value, d_hidden, d_head


def compiled(step: Callable, given) -> Step:
    """`step`, and the bytes of its temporaries."""
    run = jax.jit(step).lower(*given).compile()
    return Step(run, run.memory_analysis().temp_size_in_bytes)


def agree(full, blocks) -> None:
    """Refuses to time two steps of different values or gradients."""
    for a, b in zip(full, blocks, strict=True):
        error = jnp.linalg.norm(jnp.ravel(a - b)) / jnp.linalg.norm(jnp.ravel(a))
        assert error < 2e-5, f"the two differ by a relative {error:.1e}"


def timed(step: Step, given) -> Times:
    """One step."""
    cpu, wall = time.process_time(), time.perf_counter()
    jax.block_until_ready(step.run(*given))
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def spread(values: list[float], unit: str = "") -> str:
    """`median (min - max)`."""
    middle = statistics.median(values)
    return f"{middle:.2f}{unit and ' ' + unit} ({min(values):.2f} - {max(values):.2f})"


if __name__ == "__main__":
    main()
