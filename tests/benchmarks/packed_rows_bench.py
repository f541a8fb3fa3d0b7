"""Attention over packed rows, row by row, beside rows of one document.

    make bench ONLY=packed_rows

Forward and backward of attention alone: 4 rows of 2,048 tokens, 4 heads of 48 features,
float32. Processor time over that of rows of one document, medians of 5 rounds in turn
(min - max), beside it the documents' squares over the row's; and the same of all rows
at once in blocks of 128.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from models.kernels import blocked_attention
from models.kernels.packing import Packing
from runner.machine import heap
from tests.benchmarks import timed_step

ROUNDS, ROWS, LENGTH, DOCUMENTS = 5, 4, 2048, 8
FORMS = {"by row": (64, True), "at once": (128, False)}
Run = Callable[[], None]


def main() -> None:
    """Time all in turn."""
    heap.keep_pages()
    random = np.random.default_rng(0)
    equal = np.arange(LENGTH) // (LENGTH // DOCUMENTS)
    places = random.integers(0, LENGTH, (ROWS, DOCUMENTS - 1))
    uneven = (np.arange(LENGTH)[None, :, None] >= places[:, None]).sum(-1)
    rows = {
        "one document": np.zeros((ROWS, LENGTH), int),
        "8 equal documents": np.broadcast_to(equal, (ROWS, LENGTH)),
        "8 of any length": uneven,
    }
    forms = {
        f"{name}, {form}": gradient(ids, *how)
        for name, ids in rows.items()
        for form, how in FORMS.items()
    }
    times = timed_step.in_turn(forms, ROUNDS)
    for name, values in times.items():
        ratios = timed_step.ratios(values, times["one document, by row"])
        squares = share_of_squares(rows[name.rpartition(", ")[0]])
        print(f"{name:<28} {timed_step.spread(ratios)}   squares {squares:.2f}")


def share_of_squares(ids: np.ndarray) -> float:
    """Return the sum of the documents' squares over that of the rows'."""
    squares = [np.square(np.unique(row, return_counts=True)[1]).sum() for row in ids]
    return float(sum(squares)) / (len(ids) * LENGTH**2)


def gradient(ids: np.ndarray, block: int, by_row: bool) -> Run:
    """Return what takes a compiled gradient, which has run once."""
    shape = (*ids.shape, 4, 48)
    query, key, value = jax.random.normal(jax.random.key(0), (3, *shape))
    segments = jnp.asarray(ids + 1, jnp.int32)

    def run() -> None:
        jax.block_until_ready(_gradient(query, key, value, segments, block, by_row))

    run()
    return run


@functools.partial(jax.jit, static_argnums=(4, 5))
@functools.partial(jax.grad, argnums=(0, 1, 2))
def _gradient(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: jax.Array,
    block: int,
    by_row: bool,
) -> jax.Array:
    packing = Packing.of(segments, None, block=block, by_row=by_row)
    return jnp.sum(jnp.square(blocked_attention.attend(query, key, value, packing)))


if __name__ == "__main__":
    main()
