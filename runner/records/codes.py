"""Numbers in few bits: logits in 16, log-normalisers in 24, ids in 16 or 20, runs.

A logit is stored as how far it is below the largest of its token: softmax does not see
a constant. Up to 16 nats in steps of 2⁻¹¹ nats, the error at most 2⁻¹², where float16
has that only up to half a nat; from there on in 2¹¹ steps for each doubling, up to a
million nats, and what is impossible is one code. So rows are right at any temperature.

In format 1, all steps were 2⁻¹¹ nats, and 32 nats and more one code. What is there is
wrong at temperatures above 1, and to a reverse KL at any: such records are refused.
"""

import functools

import numpy as np

from runner.records.rows import best_first

DROP = 2.0**-11  # nats a step
FAR = 1 << 15  # code of 16 nats; from here on the steps grow
DOUBLING = 1 << 11  # steps for each doubling
FARTHEST = 65534  # impossible; in format 1: 32 nats below, or farther
RESERVED = 65535  # not a number; never written
FINE = 2.0**-20  # nats a step of a 24-bit number
SPAN = 16.0  # nats, of a 24-bit number
REST_FINE, REST_LEAST = 2.0**-17, -112.0  # nats, of a log-rest in 24 bits


class NotRecordable(ValueError):
    """A number is not finite, or an id outside the vocabulary."""


def drops(logits: np.ndarray, largest: np.ndarray, *, version: int = 2) -> np.ndarray:
    """Codes uint16 of `logits` `[*b k]` under the `largest` `[*b 1]`, one of them.

    Args:
      logits: nats.
      largest: of each token.
      version: the format of the records.

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
    most = below.max(initial=0)
    far = below > FAR if version > 1 and most > FAR else None
    distant = None if far is None else _far_codes(below[far])
    np.rint(below, out=below)
    if far is not None:
        below[far] = distant
    if most > FAR:  # seldom, and slower than to look
        np.minimum(below, np.float32(FARTHEST), out=below)
    return below.astype("<u2")


def _far_codes(below: np.ndarray) -> np.ndarray:
    """Codes of steps above `FAR`: a binary float of 11 bits, in order."""
    fraction, exponent = np.frexp(np.minimum(below, np.float32(1e12)) / FAR)
    steps = np.rint((2 * fraction - 1) * DOUBLING)
    return FAR + (exponent - 1) * DOUBLING + steps


def ranked_drops(logits: np.ndarray, *, version: int = 2) -> np.ndarray:
    """Codes uint16 of `logits` `[*b k]`, best first; `drops` in fewer passes.

    A float32 of 4096 + x is x in steps of 2⁻¹¹, half to even, in its low bits.

    Args:
      logits: nats.
      version: the format of the records.

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
        linear = FARTHEST if version == 1 else FAR
        plain = falls.all() and below[..., -1].max() <= linear * DROP
    if plain:  # so all are numbers
        below += np.float32(4096)
        return below.view("<u4").astype("<u2")
    codes = drops(logits, best, version=version)
    if not best_first(codes):
        raise ValueError("logits must be best first")
    return codes


def logits(codes: np.ndarray, *, version: int = 2) -> np.ndarray:
    """Float32 logits relative to the largest, nats, of the codes."""
    near = codes.astype(np.float32) * np.float32(-DROP)
    if version == 1:
        return near
    beyond = np.maximum(codes.astype(np.int32) - FAR, 0)
    far = (DOUBLING + beyond % DOUBLING) << (beyond // DOUBLING)
    far = far.astype(np.float32) * np.float32(-DROP * FAR / DOUBLING)
    known = np.where(codes < FAR, near, far)
    return np.where(codes >= FARTHEST, np.float32(-np.inf), known)


@functools.lru_cache(maxsize=8)
def exponentials(temperature: float, *, version: int = 2) -> np.ndarray:
    """`exp(logit / T)` of every code; nothing for what is farthest, or not a number."""
    values = np.exp(
        logits(np.arange(1 << 16).astype("<u2"), version=version)
        / np.float32(temperature)
    )
    values[FARTHEST:] = 0
    return values


def to_fixed_point(x: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Low 16 and high 8 bits of nats in [0, 16); just below 0 counts as 0.

    Log-rests may be anything below 16; the least, and all below it, are 0.

    Raises:
      NotRecordable: A value is outside or not a number.
    """
    x = np.asarray(x, np.float64)
    is_rest = name == "log_rests"
    if not ((is_rest or x.min() > -1e-3) and x.max() < SPAN):
        lowest = "-inf" if is_rest else "0"
        raise NotRecordable(f"{name} are not within {lowest} and {SPAN:g} nats")
    if is_rest:
        x = (np.maximum(x, REST_LEAST) - REST_LEAST) * (FINE / REST_FINE)
    steps = np.clip(np.rint(x / FINE), 0, (1 << 24) - 1).astype(np.uint32)
    return (steps & 0xFFFF).astype("<u2"), (steps >> 16).astype("u1")


def from_fixed_point(low: np.ndarray, high: np.ndarray, name: str) -> np.ndarray:
    """Float32 nats of their low and high bits; the inverse of `to_fixed_point`."""
    steps = low.astype(np.uint32) | high.astype(np.uint32) << 16
    if name != "log_rests":
        return steps.astype(np.float32) * np.float32(FINE)
    nats = (steps * REST_FINE + REST_LEAST).astype(np.float32)
    return np.where(steps == 0, np.float32(-np.inf), nats)


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
