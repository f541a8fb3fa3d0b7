"""Rounding of records that trade exactness for bytes: format 4.

Logits are rounded to a grid, in steps of 2⁻⁷ nats at the best, and twice as long for
each 4 nats below it, since an error of an entry counts by its probability. Log-rests
are rounded to 2⁻⁹ nats, log-normalisers are those of what was rounded, to 2⁻¹². What
is rounded already stays as it is.
"""

import functools
from collections.abc import Mapping

import numpy as np

from runner.records import codes
from runner.records.layout import Layout

STEP = 16  # codes of 2⁻¹¹ nats, at the best
DOUBLING = 8192  # codes, 4 nats
_FAR_STEP = 64  # of codes from 16 nats on, 2⁻⁵ of a doubling
WORD_BITS = 8  # that words lose


def rounded_arrays(
    layout: Layout, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return logits, log-rests and log-normalisers of the entries as rounded.

    Args:
      layout: Of the records.
      arrays: logits `[B T k]`, best first; log_rests `[B T temperatures]`.

    Raises:
      NotRecordable: A number is not finite.
    """
    drops = values(places(codes.ranked_drops(arrays["logits"])))
    logits = codes.logits(drops)
    if not layout.temperatures:
        return {"logits": logits}
    fixed = codes.to_fixed_point(arrays["log_rests"], "log_rests")
    rests = codes.from_fixed_point(*words(*fixed), "log_rests")
    # So that entries and the rest have one unit of probability again.
    sums = [np.log(np.exp(logits / t).sum(-1)) for t in layout.temperatures]
    normalizers = np.logaddexp(np.stack(sums, -1), rests)
    return {"logits": logits, "log_rests": rests, "log_normalizers": normalizers}


def places(drops: np.ndarray) -> np.ndarray:
    """Return the places int32 in the grid that are nearest to codes."""
    return _tables()[1][drops]


def values(places: np.ndarray) -> np.ndarray:
    """Return the codes uint16 at places of the grid.

    Raises:
      IndexError: There is no such place.
    """
    return _tables()[0][places]


def words(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the low 16 and high 8 bits of the nearest words whose last byte is 0.

    The least, 0, stands for what is impossible, and nothing else becomes it.
    """
    steps = low.astype(np.uint32) | high.astype(np.uint32) << 16
    unit = 1 << WORD_BITS
    nearest = np.clip((steps + unit // 2) // unit, steps > 0, (1 << 16) - 1) * unit
    return (nearest & 0xFFFF).astype("<u2"), (nearest >> 16).astype("u1")


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of the grid, and the place of each code."""
    grid, code = [], 0
    while code < codes.FAR:
        grid.append(code)
        code += STEP << code // DOUBLING
    far = np.arange(codes.FAR, codes.FARTHEST, _FAR_STEP)
    grid = np.concatenate([grid, far, [codes.FARTHEST]])
    # What is impossible is itself, and nothing possible becomes it.
    middle = (grid[1:] + grid[:-1]) / 2
    middle[-1] = codes.FARTHEST - 0.5
    place = np.searchsorted(middle, np.arange(1 << 16), side="right")
    return grid.astype("<u2"), place.astype(np.int32)
