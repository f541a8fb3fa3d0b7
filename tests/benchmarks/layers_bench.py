"""How long a gradient of 48 layers compiles, beside one of 4: stacked, and separate.

    make bench ONLY=layers

Trunk, head and the gradient of every parameter, as small as in a test: what is compiled
matters, not what it multiplies. Each is traced and compiled anew with no cache, in
rounds of all four in turn, in one process, so that a busy machine slows all; medians.

The target: stacked, 48 layers in no more than 1.5 times the 4. Fails above it.
"""

import functools
import statistics
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

import models

DEEP, SHALLOW, ROUNDS = 48, 4, 5
TARGET = 1.5
FORMS = ("stacked", "separate")
MODEL = {"vocab_size": 256, "dim": 64, "num_heads": 4}
ROWS, LENGTH = 4, 32


class Times(NamedTuple):
    """Seconds to trace and compile: on the clock, and of processor."""

    wall: float
    cpu: float


def main() -> None:
    """Prints a row a form and depth, and the two ratios."""
    jax.config.update("jax_enable_compilation_cache", False)
    cases = [(form, depth) for form in FORMS for depth in (SHALLOW, DEEP)]
    compiled("stacked", 1)  # what a process does once
    rounds = [{case: compiled(*case) for case in cases} for _ in range(ROUNDS)]
    print(f"{'seconds, median (min - max)':<28}{'wall':>24}{'processor':>24}")
    for form, depth in cases:
        wall = spread([times[form, depth].wall for times in rounds])
        cpu = spread([times[form, depth].cpu for times in rounds])
        print(f"{f'{form}, {depth} layers':<28}{wall:>24}{cpu:>24}")
    ratios = {}
    for form in FORMS:
        found = [
            [deep / shallow for deep, shallow in zip(*pair, strict=True)]
            for pair in ((times[form, DEEP], times[form, SHALLOW]) for times in rounds)
        ]
        wall, cpu = ([ratio[i] for ratio in found] for i in range(2))
        print(
            f"{f'{form}, {DEEP} over {SHALLOW}':<28}{spread(wall):>24}{spread(cpu):>24}"
        )
        ratios[form] = statistics.median(wall)
    print(f"target, stacked: {TARGET}")
    if ratios["stacked"] > TARGET:
        sys.exit(f"stacked: {ratios['stacked']:.2f}, the target is {TARGET}")


def compiled(form: str, num_layers: int) -> Times:
    """One gradient, from the definition of the model to a program."""
    cpu, wall = time.process_time(), time.perf_counter()
    gradient, params, rows = setup(form, num_layers)
    jax.jit(gradient).lower(params, rows).compile()
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def setup(form: str, num_layers: int):
    """A function never seen before, and the shapes of what it takes."""
    make = functools.partial(
        models.Transformer, **MODEL, num_layers=num_layers, layers=form
    )
    graph, params = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))
    token = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
    rows = dict.fromkeys(("tokens", "segment_ids", "positions", "targets"), token)

    def loss(params, rows):
        model = nnx.merge(graph, params)
        logits = model.head(model.trunk(rows).hidden)
        targets = jax.nn.one_hot(rows["targets"], logits.shape[-1])
        return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1))

    return jax.value_and_grad(loss), params, rows


def spread(values: list[float]) -> str:
    """`median (min - max)`."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


if __name__ == "__main__":
    main()
