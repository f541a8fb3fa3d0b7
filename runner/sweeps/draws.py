"""Random points: pure functions of a seed, the same on every machine."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from runner.errors import UserError
from runner.sweeps.points import Point, check

Distribution = Callable[[float], Any]
"""A value for every share of the probability in [0, 1): a quantile function."""

_DIGITS = 3
_PATIENCE = 1000  # draws for a point that is not there yet


def random_points(
    distributions: Mapping[str, Distribution], *, num: int, seed: int = 0
) -> list[Point]:
    """`num` different points, every flag drawn from its distribution.

    The first points stay the same when more are asked for. The bits are those of
    NumPy's PCG64, which its authors promise never to change.

    Raises:
      UserError: nothing to draw, or fewer than `num` different points can be had.
    """
    from numpy.random import PCG64

    if not distributions or num < 1:
        raise UserError(
            f"random_points: expected distributions and num >= 1, got num={num}"
        )
    # Few values can be drawn often before they are all there.
    bits = PCG64(seed)
    points: dict[str, Point] = {}
    for _ in range(_PATIENCE * num):
        point = {key: at(_unit(bits)) for key, at in distributions.items()}
        points.setdefault(repr(point), point)
        if len(points) == num:
            return check(list(points.values()))
    raise UserError(
        f"random_points: {num} points asked for, only {len(points)} are different"
    )


def uniform(low: float, high: float) -> Distribution:
    """Evenly between `low` and `high`; three digits.

    Raises:
      UserError: `low` is not below `high`.
    """
    _check_range("uniform", low, high)
    return lambda share: _rounded(low + share * (high - low), low, high)


def log_uniform(low: float, high: float) -> Distribution:
    """Evenly in the logarithm, as one draws learning rates; three digits.

    Raises:
      UserError: `low` is not positive, or not below `high`.
    """
    _check_range("log_uniform", low, high)
    if low <= 0:
        raise UserError(f"log_uniform: low must be positive, got {low}")
    return lambda share: _rounded(
        low * math.exp(share * math.log(high / low)), low, high
    )


def choice(*options: Any) -> Distribution:
    """One of the options, each as likely.

    Raises:
      UserError: there is none.
    """
    if not options:
        raise UserError("choice: no options; give at least one")
    return lambda share: options[int(share * len(options))]


def _unit(bits: Any) -> float:
    """53 random bits as a number in [0, 1)."""
    return (int(bits.random_raw()) >> 11) * 2.0**-53


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{_DIGITS}g}"), float(low)), float(high))


def _check_range(name: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name}: expected low < high, got {low} and {high}")
