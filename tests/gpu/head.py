"""Rows of the table: CE and z-loss of a head over 131,072 entries, beside full logits.

Ours by the runner's own step, in blocks of some sizes; theirs as XLA makes it of
`optax`'s losses. Parameters float32, products bfloat16. Both are held to each other's
gradients first. Memory is the compiler's temporaries.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from runner import runtime
from tests import heads
from tests.benchmarks import head_bench, timed_step
from tests.gpu import settings

SIZE = heads.Size(tokens=16_384, dim=2048, vocabulary=131_072)
TINY = heads.Size(tokens=1024, dim=64, vocabulary=8192)
BLOCKS = (1024, 2048, 4096)


def main() -> None:
    """Print a row a block size."""
    current = settings.current()
    size = TINY if current.tiny else SIZE
    size = size._replace(tokens=size.tokens // current.divide)
    given = heads.content(size)
    given["student"]["hidden"] = given["student"]["hidden"].astype(jnp.bfloat16)
    arguments = given["student"], given["teacher"], given["batch"]
    ways = {"full": full}
    for block in BLOCKS:
        block = block // 8 if current.tiny else block
        room = 4 * block * size.vocabulary
        ways[f"blocks of {block:,}"] = heads.step(
            size,
            head_bench.LABELS,
            dtype="bfloat16",
            head=runtime.Head(
                memory_budget=room, block_memory=room, smallest_block=block
            ),
        )
    compiled: dict[str, Any] = {
        name: jax.jit(way).lower(*arguments).compile() for name, way in ways.items()
    }
    expected = compiled["full"](*arguments)
    errors = {name: error(expected, way(*arguments)) for name, way in compiled.items()}
    forms = {
        name: functools.partial(run, way, arguments) for name, way in compiled.items()
    }
    times = timed_step.in_turn(forms, current.rounds())
    memory = {
        name: way.memory_analysis().temp_size_in_bytes for name, way in compiled.items()
    }
    for name in list(ways)[1:]:
        share = memory[name] / memory["full"]
        settings.row(
            f"head, {size.tokens:,} tokens, V = {size.vocabulary:,}, {name}",
            f"{1e3 * np.median(times[name]):.1f} ms, {memory[name] / 2**20:,.0f} MiB; "
            f"gradients differ by {errors[name]:.0e}",
            f"{1e3 * np.median(times['full']):.1f} ms, "
            f"{memory['full'] / 2**20:,.0f} MiB, full logits",
            f"{settings.ratio(times, name, 'full')}, memory {share:.2f}",
            "1.0, memory 0.2",
        )


def full(student: Any, teacher: Any, batch: Any) -> Any:
    """Value and gradients by autodiff of the mean over full logits."""

    def mean(student: Any) -> jax.Array:
        table = student["table"].astype(jnp.bfloat16)
        logits = jnp.einsum("...d,vd->...v", student["hidden"], table)
        logits = logits.astype(jnp.float32)
        return jnp.mean(head_bench.labels(logits, None, batch))

    del teacher
    return jax.value_and_grad(mean)(student)


def run(way: Any, arguments: tuple) -> None:
    """Run, and wait."""
    jax.block_until_ready(way(*arguments))


def error(expected: Any, results: Any) -> float:
    """Return the largest relative difference of two trees, an array as one."""

    def of(a: jax.Array, b: jax.Array) -> float:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        return float(jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(a.ravel()))

    return max(jax.tree.leaves(jax.tree.map(of, expected, results)))


if __name__ == "__main__":
    main()
