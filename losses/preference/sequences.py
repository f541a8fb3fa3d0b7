"""Log-probabilities of whole sequences: the segments of a row, and what counts them.

The halves of a pair are segments of one row, which neither blocks of tokens, nor
microbatches, nor devices part. So a loss of a pair is one value of one row, exact
however the batch is cut, at the price of no further pass over it.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from losses.core.masks import target_mask
from losses.core.outputs import Batch, Outputs, PerToken

FIRST, SECOND = 1, 2
"""Segments of a row: chosen and rejected; a judged completion and one of another."""

Over = Literal["sum", "mean"]
"""What a sequence has of the log-probabilities of its targets."""

Rows = Float[Array, " b"]


class Pair(NamedTuple):
    """A number for either of a row's two sequences."""

    first: Rows
    second: Rows


def pair_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of one token a pair: the first target of a row that has both."""
    targets, segments = target_mask(batch), batch["segment_ids"]
    both = [jnp.any(_flat(targets & (segments == s)), axis=1) for s in (FIRST, SECOND)]
    return _first(targets) & to_tokens(both[0] & both[1], targets.shape)


def sequence_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of one token a row: the first target of its first sequence."""
    return _first(chosen_mask(batch))


def chosen_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of the targets of a row's first sequence: of pairs, the chosen."""
    return target_mask(batch) & (batch["segment_ids"] == FIRST)


def log_probabilities(outputs: Outputs) -> PerToken:
    """Return `log q_y`, nats, of the targets."""
    return outputs.target_logits() - outputs.log_normalizer()


def of_sequences(values: PerToken, outputs: Outputs, over: Over) -> Pair:
    """Return the sum or mean of the targets' values in either sequence of a row.

    Of a sequence without targets both are 0.
    """
    targets = target_mask(outputs.batch)
    segments = outputs.batch["segment_ids"]

    def of_segment(segment: int) -> Rows:
        inside = targets & (segments == segment)
        total = jnp.sum(_flat(jnp.where(inside, values, 0.0)), axis=1)
        if over == "sum":
            return total
        count = jnp.sum(_flat(inside), axis=1, dtype=jnp.float32)
        return total / jnp.maximum(count, 1.0)

    return Pair(of_segment(FIRST), of_segment(SECOND))


def to_tokens(rows: Rows, shape: tuple[int, ...]) -> PerToken:
    """Repeat `[b]` along the rows of `shape`."""
    wide = rows.reshape((shape[0],) + (1,) * (len(shape) - 1))
    return jnp.broadcast_to(wide, shape)


def _first(mask: Bool[Array, "*b"]) -> Bool[Array, "*b"]:
    """Return the first true token of each row."""
    flat = _flat(mask)
    return (flat & (jnp.cumsum(flat, axis=1) == 1)).reshape(mask.shape)


def _flat(x: Shaped[Array, "b ..."]) -> Shaped[Array, "b t"]:
    """`[b ...]` to `[b t]`."""
    return x.reshape((x.shape[0], -1))
