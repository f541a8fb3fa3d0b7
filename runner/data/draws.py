"""The order of a mixture: which dataset gives the row at each place of a run.

At each place the next row is of the dataset that must come soonest to stay within one
row of its share, of those that are behind it, the first of equals. That this never
fails, for shares that change too, is the theorem of Tijdeman 1980, The chairman
assignment problem. Shares are fractions, and all of it is in integers.
"""

import array
import dataclasses
import fractions
import functools
import math
import threading
from collections.abc import Sequence

import numpy as np

from runner.errors import UserError

_LONGEST_PERIOD = 100_000


@dataclasses.dataclass(frozen=True)
class Stage:
    """Weights from one row of a run on.

    Attributes:
      weights: Of the data, in their order; 0 leaves one out.
      rows: After so many rows the next stage begins (steps times `batch_size`); None
        for the last stage, which does not end.
    """

    weights: Sequence[float]
    rows: int | None = None


@dataclasses.dataclass(frozen=True)
class Ramp:
    """Shares that move, row by row, in a straight line between those of two stages.

    Of `R` rows, row `k` from 0 has the shares `a + (b - a) (k + 1/2) / R`.

    Attributes:
      rows: After so many rows the next stage begins.
    """

    rows: int


def require_stages(stages: Sequence[Stage | Ramp], count: int) -> None:
    """Refuse stages that are not in order, or do not fit `count` datasets.

    Raises:
      UserError: With what is wrong.
    """
    for stage in stages[:-1]:
        if stage.rows is None or stage.rows < 1:
            raise UserError(
                f"a stage before the last has rows, 1 or more, got {stage.rows}"
            )
    for number, stage in enumerate(stages):
        ends = stages[number - 1 : number + 2] if number else ()
        if isinstance(stage, Ramp) and [type(x) for x in ends] != [Stage, Ramp, Stage]:
            raise UserError("a ramp stands between two stages, whose weights it joins")
    if stages[-1].rows is not None:
        raise UserError("the last stage does not end: leave its rows out")
    for stage in stages:
        if isinstance(stage, Stage):
            _counts(stage.weights, count)


class Draws:
    """The dataset, and the number of its draw, at each place of a run."""

    def __init__(self, stages: Sequence[Stage | Ramp], count: int) -> None:
        """Lay out the stages, for `count` datasets."""
        self._rows = [stage.rows or 0 for stage in stages[:-1]]
        self._ends = np.cumsum(self._rows)
        weights = [
            _counts(s.weights, count) if isinstance(s, Stage) else [] for s in stages
        ]
        self._spans: list[_Period | _RampSpan] = [
            _laid_out(weights[i])
            if isinstance(s, Stage)
            else _RampSpan(weights[i - 1], weights[i + 1], s.rows)
            for i, s in enumerate(stages)
        ]
        self._none = np.zeros(count, np.int64)

    def __call__(self, place: int) -> tuple[int, int]:
        """Return (dataset, draws of it before) at a place."""
        stage = int(np.searchsorted(self._ends, place, side="right"))
        start = int(self._ends[stage - 1]) if stage else 0
        part, count = self._spans[stage].at(place - start)
        return part, int(self._before(stage)[part]) + count

    @functools.cache  # noqa: B019 - as long as the run, which has one of these
    def _before(self, stage: int) -> np.ndarray:
        """Return the draws of each dataset before a stage."""
        if not stage:
            return self._none
        drawn = self._spans[stage - 1].drawn(self._rows[stage - 1])
        return self._before(stage - 1) + drawn


@dataclasses.dataclass(frozen=True, eq=False)
class _Period:
    """Constant shares: `parts` `[period]`; draws `before`, `[period + 1, datasets]`."""

    parts: np.ndarray
    before: np.ndarray

    def at(self, place: int) -> tuple[int, int]:
        """Return (dataset, draws of it before)."""
        part = int(self.parts[place % len(self.parts)])
        return part, int(self.drawn(place)[part])

    def drawn(self, places: int) -> np.ndarray:
        """Return the draws of each dataset before a place."""
        whole, rest = divmod(places, len(self.parts))
        return whole * self.before[-1] + self.before[rest]


class _RampSpan:
    """Shares in a straight line, counted from the start of the ramp on, once.

    With shares `p/P` before and `q/Q` after, dataset `i` is due `N(n)/D` rows of the
    first `n`, `N(n) = 2 R p Q n + (q P - p Q) n²` and `D = 2 R P Q`.
    """

    def __init__(self, before: Sequence[int], after: Sequence[int], rows: int) -> None:
        p_sum, q_sum = sum(before), sum(after)
        self._rows, self._denominator = rows, 2 * rows * p_sum * q_sum
        # Python's integers, which have no largest.
        self._linear = [2 * rows * p * q_sum for p in before]
        self._square = [
            q * p_sum - p * q_sum for p, q in zip(before, after, strict=True)
        ]
        self._parts, self._counts = array.array("H"), array.array("q")
        self._drawn = [0] * len(before)
        self._due = [self._reaches(i, 1) for i in range(len(before))]
        self._lock = threading.Lock()  # several threads read the rows of a run

    def at(self, place: int) -> tuple[int, int]:
        """Return (dataset, draws of it before)."""
        with self._lock:
            self._count_to(place + 1)
        return self._parts[place], self._counts[place]

    def drawn(self, places: int) -> np.ndarray:
        """Return the draws of each dataset before a place."""
        with self._lock:
            self._count_to(places)
        parts = np.frombuffer(self._parts.tobytes(), np.uint16)[:places]
        return np.bincount(parts, minlength=len(self._drawn))

    def _count_to(self, places: int) -> None:
        for place in range(len(self._parts) + 1, places + 1):
            behind = (
                i
                for i, drawn in enumerate(self._drawn)
                if drawn * self._denominator < self._share(i, place)
            )
            part = min(behind, key=self._due.__getitem__)
            self._parts.append(part)
            self._counts.append(self._drawn[part])
            self._drawn[part] += 1
            self._due[part] = self._reaches(part, self._drawn[part] + 1)

    def _share(self, part: int, place: int) -> int:
        """Return `N(place)`."""
        return (self._linear[part] + self._square[part] * place) * place

    def _reaches(self, part: int, rows: int) -> int:
        """Return the first place whose share is `rows`; one past the ramp for none."""
        target, last = rows * self._denominator, self._rows
        if self._share(part, last) < target:
            return last + 1
        a, b = self._square[part], self._linear[part]
        # The root of the quadratic to within two places, then the place itself.
        place = (
            -(-target // b)
            if not a
            else (math.isqrt(b * b + 4 * a * target) - b) // (2 * a)
        )
        place = max(place - 2, 1)
        while self._share(part, place) < target:
            place += 1
        return place


def _laid_out(weights: Sequence[int]) -> _Period:
    total = sum(weights)
    drawn = np.zeros(len(weights), np.int64)
    shares = np.array(weights, np.int64)
    parts, before = [], [drawn.copy()]
    for place in range(1, total + 1):
        due = np.full(len(weights), np.inf)  # the last place for the next draw
        behind = drawn * total < shares * place
        due[behind] = -(-(drawn + 1)[behind] * total // shares[behind])
        part = int(np.argmin(due))
        drawn[part] += 1
        parts.append(part)
        before.append(drawn.copy())
    return _Period(np.array(parts), np.array(before))


def _counts(weights: Sequence[float], count: int) -> list[int]:
    """Return the draws of each dataset in one period, in lowest terms.

    Raises:
      UserError: They are not one weight each, or share no short period.
    """
    if len(weights) != count:
        raise UserError(f"a mixture of {count} data has {len(weights)} weights")
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
        raise UserError(
            f"weights must be 0 or more, and not all 0, got {list(weights)}"
        )
    exact = [fractions.Fraction(repr(float(weight))) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    counts = [int(weight * scale) for weight in exact]
    counts = [x // math.gcd(*counts) for x in counts]
    if sum(counts) > _LONGEST_PERIOD:
        raise UserError(
            f"weights {list(weights)} repeat after {sum(counts):,} rows, more than "
            f"{_LONGEST_PERIOD:,}; write them with fewer digits"
        )
    return counts
