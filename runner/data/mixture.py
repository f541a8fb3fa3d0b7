"""Rows of several data, in exact proportions over every prefix of a run."""

import dataclasses
import fractions
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Dataset
from runner.data.repeats import Repeats
from runner.data.source import DataSource
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
class Mixture(DataSource):
    """Rows of several data, drawn by weight.

    After any number `n` of rows of a stage, each of its data has given `w n / Σ w` of
    them to within one row. Each goes through permutations of its own rows, epoch after
    epoch, also from one stage to the next. Which row comes when is a function of seed
    and place alone, so that a run goes on exactly.

    Attributes:
      data: Of one vocabulary, with the same arrays in their rows.
      weights: Of the data, in their order: shares of the rows, not of the data.
      stages: In place of `weights`: one after another.

    Raises:
      UserError: Weights do not fit the data, or stages are not in order.
    """

    data: Sequence[DataSource]
    weights: Sequence[float] = ()
    stages: Sequence[Stage] = ()

    def __post_init__(self) -> None:
        if not self.data:
            raise UserError("a mixture needs data, got none")
        if bool(self.weights) == bool(self.stages):
            raise UserError("a mixture has weights or stages, one of the two")
        for stage in self._stages[:-1]:
            if stage.rows is None or stage.rows < 1:
                raise UserError(
                    f"a stage before the last has rows, 1 or more, got {stage.rows}"
                )
        if self._stages[-1].rows is not None:
            raise UserError("the last stage does not end: leave its rows out")
        for stage in self._stages:
            _period(stage.weights, len(self.data))

    @property
    def _stages(self) -> Sequence[Stage]:
        return self.stages or [Stage(self.weights)]

    def check(self) -> None:
        for source in self.data:
            source.check()

    def load(self, *, cache: str = "") -> "MixedRows":
        parts = [source.load(cache=cache) for source in self.data]
        for number, part in enumerate(parts):
            part.require_fixed(f"data[{number}] of a mixture")
        for number, part in enumerate(parts):
            _require_same(parts[0], part, number)
        return MixedRows(
            vocabulary=parts[0].vocabulary, parts=parts, stages=self._stages
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MixedRows(Dataset):
    """The rows of several datasets, one after another, and the order of a mixture.

    Attributes:
      parts: The datasets.
      stages: Of the mixture.
    """

    parts: Sequence[Dataset]
    stages: Sequence[Stage]

    unit: ClassVar[str] = "token"

    @property
    def num_all(self) -> int:
        return int(self._begins[-1])

    @functools.cached_property
    def _begins(self) -> np.ndarray:
        """`[parts + 1]`, number of the first row of each part."""
        return np.cumsum([0, *map(len, self.parts)])

    @property
    def targets_per_row(self) -> int:
        return self.parts[0].targets_per_row

    def order(self, seed: int) -> Callable[[int], int] | None:
        """Return the number of the row at each place of a run.

        Args:
          seed: Of the permutations.
        """
        if self.selection is not None:  # a part of the rows has no weights any more
            return None
        import grain  # slow to import

        rows = [
            grain.MapDataset.range(len(part))
            .seed((seed + number) % 2**32)
            .shuffle()
            .repeat()
            for number, part in enumerate(self.parts)
        ]
        draws = Draws(self.stages, len(self.parts))

        def row(place: int) -> int:
            part, count = draws(place)
            return int(self._begins[part] + rows[part][count])

        return row

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows, each array as the parts have it."""
        which = np.searchsorted(self._begins, numbers, side="right") - 1
        result: dict[str, np.ndarray] = {}
        for part in np.unique(which).tolist():
            chosen = which == part
            rows = self.parts[part].rows(numbers[chosen] - self._begins[part])
            for name, values in rows.items():
                shape = (len(numbers), *values.shape[1:])
                result.setdefault(name, np.zeros(shape, values.dtype))[chosen] = values
        return result

    def repeats(self, held_out: Dataset) -> Repeats | None:
        every = (part.repeats(held_out) for part in self.parts)
        return next((repeats for repeats in every if repeats is not None), None)

    @property
    def cautions(self) -> tuple[str, ...]:
        return tuple(line for part in self.parts for line in part.cautions)

    @functools.cached_property
    def fingerprint(self) -> str:
        stages = [([*map(float, s.weights)], s.rows) for s in self.stages]
        parts = [part.fingerprint for part in self.parts]
        return self.digest(f"retort mixture 1 {parts} {stages}")

    def describe(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "rows": len(self),
            "vocabulary": self.vocabulary.describe(),
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "parts": [part.describe_all() for part in self.parts],
        }


class Draws:
    """The dataset, and the number of its draw, at each place of a mixture.

    Of those that are behind their share the next draw is of the one that must come
    soonest to stay within one row of it, the first of equals. Shares are fractions, so
    that this repeats after a period.

    Source: Tijdeman 1980, The chairman assignment problem.
    """

    def __init__(self, stages: Sequence[Stage], count: int) -> None:
        """Lay out the periods of the stages, for `count` datasets."""
        self._ends = np.cumsum([stage.rows or 0 for stage in stages[:-1]])
        self._periods = [_laid_out(_period(s.weights, count)) for s in stages]
        self._before = [np.zeros(count, np.int64)]
        for stage, period in zip(stages[:-1], self._periods[:-1], strict=True):
            drawn = _drawn(period, stage.rows or 0)
            self._before.append(self._before[-1] + drawn)

    def __call__(self, place: int) -> tuple[int, int]:
        """Return (dataset, draws of it before) at a place."""
        stage = int(np.searchsorted(self._ends, place, side="right"))
        start = int(self._ends[stage - 1]) if stage else 0
        period = self._periods[stage]
        part = int(period.parts[(place - start) % len(period.parts)])
        before = self._before[stage] + _drawn(period, place - start)
        return part, int(before[part])


@dataclasses.dataclass(frozen=True, eq=False)
class _Period:
    """One period: `parts` `[period]`; draws `before`, `[period + 1, datasets]`."""

    parts: np.ndarray
    before: np.ndarray


def _drawn(period: _Period, places: int) -> np.ndarray:
    whole, rest = divmod(places, len(period.parts))
    return whole * period.before[-1] + period.before[rest]


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


def _period(weights: Sequence[float], count: int) -> list[int]:
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
    exact = [fractions.Fraction(repr(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    counts = [int(weight * scale) for weight in exact]
    counts = [x // math.gcd(*counts) for x in counts]
    if sum(counts) > _LONGEST_PERIOD:
        raise UserError(
            f"weights {list(weights)} repeat after {sum(counts):,} rows, more than "
            f"{_LONGEST_PERIOD:,}; write them with fewer digits"
        )
    return counts


def _require_same(first: Dataset, other: Dataset, number: int) -> None:
    if other.vocabulary.digest != first.vocabulary.digest:
        raise UserError(
            f"data[{number}] of a mixture has {other.vocabulary.summary}, and data[0] "
            f"{first.vocabulary.summary}: give them one tokenizer node"
        )
    theirs, ours = other.rows(np.arange(1)), first.rows(np.arange(1))
    shapes = [{name: x.shape for name, x in rows.items()} for rows in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"data[{number}] of a mixture has rows of {_said(theirs)}, and data[0] of "
            f"{_said(ours)}"
        )


def _said(rows: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {list(x.shape[1:])}" for name, x in rows.items())
