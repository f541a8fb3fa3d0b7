"""Rounding of records that trade exactness for bytes: format 8, and 4 and 6 before.

Logits are rounded to a grid, in steps of 0.0044 nats at the best, which double with
every 2.5 nats below it, since an error of an entry counts by its probability. Log-rests
are rounded to 2⁻⁹ nats, log-normalisers are those of what was rounded, to 2⁻¹². What
is rounded already stays as it is. In format 4 steps were 2⁻⁷ nats up to 4 nats below
the best, 2⁻⁶ up to 8, and so on.
"""

import functools
from collections.abc import Mapping

import numpy as np

from runner.records import codes
from runner.records.layout import DEFLATED, Layout

STEP, DOUBLING = 8.75, 5120  # codes of 2⁻¹¹ nats: at the best, and until it has doubled
_STEP_4, _DOUBLING_4 = 16, 8192  # of format 4, where steps double at once
_FAR_STEP = 64  # of codes from 16 nats on, 2⁻⁵ of a doubling
WORD_BITS = 8  # that words lose


def rounded_arrays(
    layout: Layout, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return drops `[B T k]`, log-rests and log-normalisers of entries as rounded.

    Args:
      layout: Of the records.
      arrays: logits `[B T k]`, best first; log_rests `[B T temperatures]`.

    Raises:
      NotRecordable: A number is not finite.
    """
    drops = codes.ranked_drops(arrays["logits"])
    drops = _nearest(layout.format).take(drops)
    if not layout.temperatures:
        return {"drops": drops}
    fixed = codes.to_fixed_point(arrays["log_rests"], "log_rests")
    rests = codes.from_fixed_point(*words(*fixed), "log_rests")
    # So that entries and the rest have one unit of probability again.
    masses = [codes.exponentials(t).take(drops) for t in layout.temperatures]
    sums = [np.log(np.einsum("...k->...", mass)) for mass in masses]
    normalizers = np.logaddexp(np.stack(sums, -1), rests)
    return {"drops": drops, "log_rests": rests, "log_normalizers": normalizers}


def places(drops: np.ndarray, version: int) -> np.ndarray:
    """Return the places uint16 in the grid of a format that are nearest to codes."""
    return _tables(version)[1].take(drops)


def values(places: np.ndarray, version: int) -> np.ndarray:
    """Return the codes uint16 at places of the grid of a format.

    Raises:
      IndexError: There is no such place.
    """
    return _tables(version)[0].take(places)


def words(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the low 16 and high 8 bits of the nearest words whose last byte is 0.

    The least, 0, stands for what is impossible, and nothing else becomes it.
    """
    steps = low.astype(np.uint32) | high.astype(np.uint32) << 16
    unit = 1 << WORD_BITS
    nearest = np.clip((steps + unit // 2) // unit, steps > 0, (1 << 16) - 1) * unit
    return (nearest & 0xFFFF).astype("<u2"), (nearest >> 16).astype("u1")


@functools.cache
def _nearest(version: int) -> np.ndarray:
    """Return the code in the grid that is nearest to each code."""
    return values(places(np.arange(1 << 16).astype("<u2"), version), version)


@functools.cache
def _tables(version: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of the grid, and the place of each code."""
    grid, code = [], 0
    while code < codes.FAR:
        grid.append(code)
        if version == DEFLATED[1]:
            code += _STEP_4 << code // _DOUBLING_4
        else:
            code += round(STEP * 2 ** (code / DOUBLING))
    far = np.arange(codes.FAR, codes.FARTHEST, _FAR_STEP)
    grid = np.concatenate([grid, far, [codes.FARTHEST]])
    # What is impossible is itself, and nothing possible becomes it.
    middle = (grid[1:] + grid[:-1]) / 2
    middle[-1] = codes.FARTHEST - 0.5
    place = np.searchsorted(middle, np.arange(1 << 16), side="right")
    return grid.astype("<u2"), place.astype("<u2")
