"""Numbers in few bits: logits in 16, log-normalisers in 24, ids in 16 or 20, runs.

A logit is stored as how far it is below the largest of its token, in steps of 2⁻¹¹
nats: softmax does not see a constant, and the error is at most 2⁻¹² nats at any
distance, where float16 has 2⁻¹² only up to half a nat. 32 nats and more are one code.
"""

import numpy as np

from runner.records.rows import best_first

DROP = 2.0**-11  # nats a step
FARTHEST = 65534  # this far or farther below
RESERVED = 65535  # not a number; never written
FINE = 2.0**-20  # nats a step of a 24-bit number
SPAN = 16.0  # nats, of a 24-bit number


class NotRecordable(ValueError):
    """A number is not finite, or an id outside the vocabulary."""


def drops(logits: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Codes uint16 of `logits` `[*b k]` under the `largest` `[*b 1]`, one of them.

    Raises:
      NotRecordable: A logit is NaN or +inf, or all are -inf.
      ValueError: One is above the largest.
    """
    steps = np.float32(1 / DROP)
    with np.errstate(invalid="ignore"):
        below = np.multiply(logits, -steps, dtype=np.float32)
        below += largest.astype(np.float32) * steps
    if not (lowest := below.min(initial=0)) >= 0:
        if np.isnan(lowest):
            raise NotRecordable("logits are not finite")
        raise ValueError("logits must be best first")
    np.rint(below, out=below)
    if below.max(initial=0) > FARTHEST:  # seldom, and slower than to look
        np.minimum(below, np.float32(FARTHEST), out=below)
    return below.astype("<u2")


def ranked_drops(logits: np.ndarray) -> np.ndarray:
    """Codes uint16 of `logits` `[*b k]`, best first; `drops` in fewer passes.

    A float32 of 4096 + x is x in steps of 2⁻¹¹, half to even, in its low bits.

    Raises:
      NotRecordable: A logit is NaN or +inf, or all are -inf.
      ValueError: They are not best first.
    """
    logits = np.ascontiguousarray(logits, np.float32)
    flat, best = logits.reshape(-1), logits[..., :1]
    falls = flat[1:] <= flat[:-1]
    falls[logits.shape[-1] - 1 :: logits.shape[-1]] = True  # where a token begins
    with np.errstate(invalid="ignore"):
        below = best - logits
        plain = falls.all() and below[..., -1].max() <= FARTHEST * DROP
    if plain:  # so all are numbers
        below += np.float32(4096)
        return below.view("<u4").astype("<u2")
    codes = drops(logits, best)
    if not best_first(codes):
        raise ValueError("logits must be best first")
    return codes


def logits(codes: np.ndarray) -> np.ndarray:
    """Float32 logits relative to the largest, nats, of the codes."""
    return codes.astype(np.float32) * np.float32(-DROP)


def to_fixed_point(x: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Low 16 and high 8 bits of nats in [0, 16); just below 0 counts as 0.

    Raises:
      NotRecordable: A value is outside or not a number.
    """
    x = np.asarray(x, np.float64)
    if not (x.min() > -1e-3 and x.max() < SPAN):
        raise NotRecordable(f"{name} are not within 0 and {SPAN:g} nats")
    steps = np.clip(np.rint(x / FINE), 0, (1 << 24) - 1).astype(np.uint32)
    return (steps & 0xFFFF).astype("<u2"), (steps >> 16).astype("u1")


def from_fixed_point(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Float32 nats of their low and high bits; the inverse of `to_fixed_point`."""
    steps = low.astype(np.uint32) | high.astype(np.uint32) << 16
    return steps.astype(np.float32) * np.float32(FINE)


def high_bits(x: np.ndarray) -> np.ndarray:
    """Bits 16 to 19 of ids `[*b n]`, two to a byte, the first in the low half."""
    high = (x >> 16).astype("u1")
    if high.shape[-1] % 2:
        high = np.concatenate([high, np.zeros_like(high[..., :1])], -1)
    pairs = high.view("<u2")
    return (pairs | pairs >> 4).astype("u1")


def join_ids(low: np.ndarray, high: np.ndarray | None) -> np.ndarray:
    """Int32 ids `[*b n]` of their 16-bit plane and their 4-bit plane, if any."""
    ids = low.astype(np.int32)
    if high is not None:
        count = ids.shape[-1]
        ids[..., 0::2] |= (high & 15).astype(np.int32) << 16
        ids[..., 1::2] |= (high[..., : count // 2] >> 4).astype(np.int32) << 16
    return ids


def to_runs(x: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Run-length code of the rows of `x` `[B T]` int32, which begin at 0.

    Returns:
      The runs of all rows, one after the other: the place and the value of each
      change. The number of runs of each row `[B]`.
    """
    change = np.empty(x.shape, bool)
    change[:, 0] = x[:, 0] != 0
    np.not_equal(x[:, 1:], x[:, :-1], out=change[:, 1:])
    row, start = np.nonzero(change)
    coded = np.empty(len(start), dtype)
    coded["start"], coded["value"] = start, x[row, start]
    return coded, np.bincount(row, minlength=len(x))


def from_runs(coded: np.ndarray, length: int) -> np.ndarray:
    """The `[length]` int32 values of runs; the inverse of `to_runs` for one row.

    Raises:
      ValueError: The runs are not in order, or outside.
    """
    starts = coded["start"].astype(np.int64)
    ends = np.append(starts, length)
    sizes = np.diff(ends)
    if (sizes <= 0).any():
        raise ValueError("runs are out of order")
    values = np.append(np.int32(0), coded["value"])
    return np.repeat(values, np.append(ends[0], sizes)).astype(np.int32)
