"""Smoothing and thinning of logged curves, and tests of their shape."""

import math
from collections.abc import Sequence

import numpy as np


def smoothed(values: np.ndarray, *, log: bool = False) -> np.ndarray:
    """Return a Gaussian moving average; NaN stays NaN and weighs nothing.

    The window narrows towards the first point, where curves fall steeply and a
    one-sided window would lie.

    Args:
      values: `[points]`.
      log: Average logarithms instead.
    """
    finite = np.isfinite(values)
    filled = np.where(finite, values, 1.0)
    filled = np.log(filled) if log else filled
    deviation = max(len(values) / 60, 1.5)
    reach = math.ceil(3 * deviation)
    smooth = np.full(len(values), np.nan)
    for i in np.flatnonzero(finite):
        window = np.arange(i - min(i, reach), min(i + min(i, reach) + 1, len(values)))
        weights = np.exp(-0.5 * ((window - i) / deviation) ** 2) * finite[window]
        smooth[i] = weights @ filled[window] / weights.sum()
    return np.exp(smooth) if log else smooth


def thin(
    steps: np.ndarray, values: np.ndarray, *, points: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Return at most twice `points` of a curve: a screen shows no more."""
    stride = max(1, len(steps) // points)
    return steps[::stride], values[::stride]


def is_wide(values: np.ndarray) -> bool:
    """Return whether a linear axis would press most of the curve onto its floor."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or finite.min() <= 0:
        return False
    return bool(finite.max() > 12 * np.quantile(finite, 0.02))


def is_noisy(values: np.ndarray) -> bool:
    """Return whether points jump about their neighbours' mean, unlike a schedule."""
    finite = values[np.isfinite(values)]
    jumps = np.abs(finite[1:-1] - (finite[:-2] + finite[2:]) / 2)
    low, high = np.quantile(finite, [0.02, 0.98])
    return bool(np.quantile(jumps, 0.75) > 2e-3 * (high - low))


def is_constant(curves: Sequence[Sequence[float]]) -> bool:
    """Return whether all curves together vary by no more than a thousandth."""
    values = np.concatenate([np.asarray(curve, float) for curve in curves])
    finite = values[np.isfinite(values)]
    return finite.size == 0 or bool(np.ptp(finite) <= 1e-3 * np.abs(finite).max())


def end_mean(values: Sequence[float]) -> float:
    """Return the mean of the last twentieth, where a curve ends for the eye."""
    tail = np.asarray(values, float)[-max(1, len(values) // 20) :]
    tail = tail[np.isfinite(tail)]
    return float(tail.mean()) if tail.size else math.nan
