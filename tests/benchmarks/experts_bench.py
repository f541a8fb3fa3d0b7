"""Many small shares beside few large ones: 64 experts over 4 at equal FLOPs.

    make bench ONLY=experts

Forward and backward of one mixture layer: 1,024 tokens of 192, experts of width 512, 2
of them a token, float32. Processor time, medians of 7 rounds of all in turn (min -
max); beside them one dense layer of that width on as many rows, which routes nothing
and has the weights of one expert. Target: 1.4.
"""

import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp

from models import moe
from runner.machine import heap
from tests.benchmarks import timed_step

ROUNDS, TOKENS, DIM, WIDTH, CHOICES, TARGET = 7, 1024, 192, 512, 2, 1.4


def main() -> None:
    """Time all in turn."""
    heap.keep_pages()
    forms = {
        "4 experts": layer(4, choices=CHOICES, tokens=TOKENS),
        "64 experts": layer(64, choices=CHOICES, tokens=TOKENS),
        "one, dense": layer(1, choices=1, tokens=CHOICES * TOKENS),
    }
    times = timed_step.in_turn(forms, ROUNDS)
    for name, values in times.items():
        ratios = timed_step.ratios(values, times["4 experts"])
        middle = 1e3 * statistics.median(values)
        print(f"{name:<28}{middle:>6.0f} ms   {timed_step.spread(ratios)}")
    print(f"target of 64 over 4: {TARGET}")


def layer(
    num_experts: int,
    *,
    choices: int,
    tokens: int,
    dim: int = DIM,
    width: int = WIDTH,
    dtype: str = "float32",
) -> Callable[[], None]:
    """A compiled gradient that has run once."""
    draws = iter(jax.random.split(jax.random.key(0), 5))
    x = jax.random.normal(next(draws), (tokens, dim), dtype)
    router = jax.random.normal(next(draws), (dim, num_experts), dtype)
    scores = jax.nn.softmax((x @ router).astype(jnp.float32))
    gates, chosen = jax.lax.top_k(scores, choices)
    into, out = (num_experts, dim, width), (num_experts, width, dim)
    weights = tuple(
        (jax.random.normal(next(draws), shape) / dim**0.5).astype(dtype)
        for shape in (into, into, out)
    )

    def loss(x: jax.Array, weights: moe.Weights) -> jax.Array:
        y = moe.experts(x, gates, chosen, weights, activation=jax.nn.silu)
        return jnp.sum(jnp.square(y))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))

    def run() -> None:
        jax.block_until_ready(gradient(x, weights))

    run()
    return run


if __name__ == "__main__":
    main()
