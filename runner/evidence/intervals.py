"""Confidence intervals of a mean by the bootstrap, for as few values as seeds are."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95
RESAMPLES = 9999
SEED = 0

_QUANTILE = 0.5 + LEVEL / 2
# Student's t at 0.975 for 1 to 5 degrees of freedom, where the expansion is too coarse.
_FEW = (12.706204736, 4.3026527297, 3.1824463053, 2.7764451052, 2.5705818356)


@dataclasses.dataclass(frozen=True)
class Spread:
    """Values of one metric over seeds.

    Attributes:
      count: number of values.
      mean: their mean.
      deviation: standard deviation, `sqrt(Σ (x - mean)² / (n - 1))`; NaN of one value.
      low: lower end of the 95 % interval of the mean; NaN of one value.
      high: its upper end.
    """

    count: int
    mean: float
    deviation: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True if 0 lies outside of the interval; False below three values.

        The resamples of two values can reach no level above one half.
        """
        return self.count >= 3 and (self.low > 0.0 or self.high < 0.0)


def of(values: Sequence[float]) -> Spread:
    """Return mean, standard deviation and interval of values.

    The interval is the bootstrap's *expanded percentile* interval: percentiles `a` and
    `1 - a` of the means of 9,999 resamples, with `a = Φ(-sqrt(n / (n - 1)) t)` in place
    of 0.025, t being Student's quantile at 0.975 with `n - 1` degrees of freedom. Plain
    percentiles are too narrow for few values. Resamples are drawn from a fixed seed:
    the same values have the same interval.

    Source: Hesterberg 2015 (arXiv:1411.5279).

    Raises:
      ValueError: there is no value, or one is not finite.
    """
    return _of(tuple(map(float, values)))


@functools.cache
def _of(values: tuple[float, ...]) -> Spread:
    x = np.asarray(values, np.float64)
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"expected finite values, got {list(values)}")
    if x.size == 1:
        return Spread(1, float(x[0]), math.nan, math.nan, math.nan)
    draws = np.random.default_rng(SEED).integers(0, x.size, (RESAMPLES, x.size))
    share = tail(x.size)
    low, high = np.quantile(x[draws].mean(axis=1), [share, 1.0 - share])
    return Spread(
        x.size, float(x.mean()), float(x.std(ddof=1)), float(low), float(high)
    )


def tail(count: int) -> float:
    """Return the share of resamples below the interval of `count` values."""
    degrees = count - 1
    wide = math.sqrt(count / degrees) * student(degrees)
    return statistics.NormalDist().cdf(-wide)


def student(degrees: int) -> float:
    """Return the 0.975 quantile of Student's t, to 2e-4.

    Source: Abramowitz & Stegun 1964, 26.7.5.
    """
    if degrees <= len(_FEW):
        return _FEW[degrees - 1]
    z = statistics.NormalDist().inv_cdf(_QUANTILE)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (i + 1) for i, term in enumerate(terms))
