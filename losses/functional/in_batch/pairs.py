"""`log Σ_j w_ij e^{s_ij} - s_ii`, a block of rows i by a block of rows j at a time.

What is held beside the arguments and the gradient is some blocks of pairs and of rows;
the gradient makes the scores again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BLOCK = 256
"""Rows of a block."""

Rows = Float[Array, "n d"]
Vector = Float[Array, " n"]
Pairs = Float[Array, "i j"]


class Numbers(NamedTuple):
    """Constants of a loss; none has a gradient."""

    temperature: Float[Array, ""]
    alpha: Float[Array, ""]
    beta: Float[Array, ""]
    floor: Float[Array, ""]


class _Inputs(NamedTuple):
    queries: Rows
    keys: Rows
    similar: tuple[Rows, Rows] | None
    counts: Bool[Array, " n"]
    numbers: Numbers


class _Block(NamedTuple):
    """Rows `start` to `start + size`; the last one begins early, to be as long.

    Attributes:
      start: its first row.
      index: its rows.
      own: those that no block before has.
    """

    start: Int[Array, ""]
    index: Int[Array, " size"]
    own: Bool[Array, " size"]

    def of(self, x: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(x, self.start, len(self.index))

    def rows(self, x: Rows, counts: Bool[Array, " n"]) -> Rows:
        """Return rows in float32, zeros in the place of those that do not count."""
        return jnp.where(self.of(counts)[:, None], self.of(x), 0.0).astype(jnp.float32)


@jax.custom_vjp
def values(
    queries: Rows,
    keys: Rows,
    similar: tuple[Rows, Rows] | None,
    counts: Bool[Array, " n"],
    numbers: Numbers,
) -> Vector:
    """Return the value of each row; of rows that do not count, any finite one.

    Args:
      queries: q, `s_ij = q_i · k_j / T`.
      keys: k.
      similar: r and r', by whose products w weighs the negatives; None for w = 1.
      counts: rows that are queries, and negatives of others.
      numbers: T, and α, β and the least of w.
    """
    return _values(_Inputs(queries, keys, similar, counts, numbers))[0]


def _values(inputs: _Inputs) -> tuple[Vector, tuple[Vector, Vector]]:
    """Return the values, and the normalizers of scores and of r."""
    size = len(inputs.counts)

    def of_block(i: Array, carry: tuple[Vector, Vector, Vector]):
        row = _block(i, size)
        normalizer = jnp.zeros(len(row.index))
        if inputs.similar is not None:
            normalizer = _log_sum(row, size, lambda col: _affinities(inputs, row, col))
            normalizer = jnp.where(jnp.isfinite(normalizer), normalizer, 0.0)
        log_sum = _log_sum(row, size, lambda col: _scores(inputs, row, col, normalizer))
        ours = row.rows(inputs.queries, inputs.counts)
        theirs = row.rows(inputs.keys, inputs.counts)
        score = jnp.sum(ours * theirs, axis=1) / inputs.numbers.temperature
        new = log_sum - score, log_sum, normalizer
        return tuple(
            jax.lax.dynamic_update_slice_in_dim(x, y, row.start, 0)
            for x, y in zip(carry, new, strict=True)
        )

    zeros = jnp.zeros(size)
    found = jax.lax.fori_loop(0, _count(size), of_block, (zeros, zeros, zeros))
    return found[0], found[1:]


def _forward(*inputs):
    result, normalizers = _values(_Inputs(*inputs))
    return result, (_Inputs(*inputs), normalizers)


def _backward(residuals: tuple[_Inputs, tuple[Vector, Vector]], slopes: Vector):
    inputs, (log_sums, normalizers) = residuals
    size = len(inputs.counts)
    slopes = jnp.where(inputs.counts, slopes, 0.0) / inputs.numbers.temperature

    def of_rows(i: Array, carry: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
        row = _block(i, size)
        ours = row.rows(inputs.queries, inputs.counts)
        slope = jnp.where(row.own, row.of(slopes), 0.0)[:, None]
        log_sum, normalizer = row.of(log_sums)[:, None], row.of(normalizers)

        def of_pairs(j: Array, carry: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
            of_queries, of_keys = carry
            col = _block(j, size)
            theirs = col.rows(inputs.keys, inputs.counts)
            share = jnp.exp(_scores(inputs, row, col, normalizer) - log_sum)
            own = _same(row, col) & col.own[None, :]
            by_pair = slope * (share - own.astype(jnp.float32))
            return (
                _added(of_queries, by_pair @ theirs, row),
                _added(of_keys, by_pair.T @ ours, col),
            )

        return jax.lax.fori_loop(0, _count(size), of_pairs, carry)

    start = tuple(jnp.zeros(x.shape, jnp.float32) for x in inputs[:2])
    slopes_of = jax.lax.fori_loop(0, _count(size), of_rows, start)
    of_queries, of_keys = (
        x.astype(y.dtype) for x, y in zip(slopes_of, inputs[:2], strict=True)
    )
    return of_queries, of_keys, None, None, None


values.defvjp(_forward, _backward)


def _count(size: int) -> int:
    return -(-size // BLOCK)


def _block(i: Array, size: int) -> _Block:
    length = min(BLOCK, size)
    first = i * length
    start = jnp.minimum(first, size - length)
    index = start + jnp.arange(length)
    return _Block(start, index, index >= first)


def _same(row: _Block, col: _Block) -> Bool[Array, "i j"]:
    return row.index[:, None] == col.index[None, :]


def _added(x: Rows, rows: Rows, block: _Block) -> Rows:
    return jax.lax.dynamic_update_slice_in_dim(
        x, block.of(x) + rows, block.start, axis=0
    )


def _log_sum(row: _Block, size: int, scores) -> Vector:
    """Return `log Σ_j exp` of the scores of a block of rows."""

    def more(j: Array, carry: tuple[Vector, Vector]) -> tuple[Vector, Vector]:
        largest, total = carry
        block = scores(_block(j, size))
        larger = jnp.maximum(largest, jnp.max(block, axis=1))
        shift = jnp.where(jnp.isfinite(larger), larger, 0.0)
        added = jnp.sum(jnp.exp(block - shift[:, None]), axis=1)
        return larger, total * jnp.exp(largest - shift) + added

    start = jnp.full(len(row.index), -jnp.inf), jnp.zeros(len(row.index))
    largest, total = jax.lax.fori_loop(0, _count(size), more, start)
    return largest + jnp.log(total)


def _negatives(inputs: _Inputs, row: _Block, col: _Block) -> Bool[Array, "i j"]:
    return (col.of(inputs.counts) & col.own)[None, :] & ~_same(row, col)


def _affinities(inputs: _Inputs, row: _Block, col: _Block) -> Pairs:
    """Return `r_i · r'_j` of the negatives, -inf elsewhere."""
    assert inputs.similar is not None
    ours, theirs = (
        block.rows(x, inputs.counts)
        for block, x in zip((row, col), inputs.similar, strict=True)
    )
    return jnp.where(_negatives(inputs, row, col), ours @ theirs.T, -jnp.inf)


def _scores(inputs: _Inputs, row: _Block, col: _Block, normalizer: Vector) -> Pairs:
    """Return `s_ij + log w_ij` of a row itself and its negatives, -inf elsewhere."""
    numbers, negative = inputs.numbers, _negatives(inputs, row, col)
    ours = row.rows(inputs.queries, inputs.counts)
    theirs = col.rows(inputs.keys, inputs.counts)
    scores = ours @ theirs.T / numbers.temperature
    if inputs.similar is not None:
        share = jnp.exp(_affinities(inputs, row, col) - normalizer[:, None])
        others = jnp.sum(inputs.counts, dtype=jnp.float32) - 1.0
        norm = numbers.beta - numbers.alpha / jnp.maximum(others, 1.0)
        # A single other has p = 1/K: its weight is 1, whatever α and β.
        uniform = norm == 0.0
        weights = (numbers.beta - numbers.alpha * share) / jnp.where(uniform, 1.0, norm)
        weights = jnp.maximum(jnp.where(uniform, 1.0, weights), numbers.floor)
        scores = scores + jnp.where(negative, jnp.log(weights), 0.0)
    itself = _same(row, col) & col.own[None, :]
    return jnp.where(negative | itself, scores, -jnp.inf)
