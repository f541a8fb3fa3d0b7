"""Rows of several data, in exact proportions over every prefix of a run."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Dataset
from runner.data.draws import Draws, Ramp, Stage, require_stages
from runner.data.repeats import Repeats
from runner.data.source import DataSource
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class Mixture(DataSource):
    """Rows of several data, drawn by weight.

    After any number `n` of rows of a stage, each of its data has given `w n / Σ w` of
    them to within one row; of a ramp, the sum of its shares of the rows so far. Each
    goes through permutations of its own rows, epoch after epoch, also from one stage to
    the next. Which row comes when is a function of seed and place alone, so that a run
    goes on exactly.

    Attributes:
      data: Of one vocabulary, with the same arrays in their rows.
      weights: Of the data, in their order: shares of the rows, not of the data.
      stages: In place of `weights`: one after another, with ramps between them.

    Raises:
      UserError: Weights do not fit the data, or stages are not in order.
    """

    data: Sequence[DataSource]
    weights: Sequence[float] = ()
    stages: Sequence[Stage | Ramp] = ()

    def __post_init__(self) -> None:
        if not self.data:
            raise UserError("a mixture needs data, got none")
        if bool(self.weights) == bool(self.stages):
            raise UserError("a mixture has weights or stages, one of the two")
        require_stages(self._stages, len(self.data))

    @property
    def _stages(self) -> Sequence[Stage | Ramp]:
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
    stages: Sequence[Stage | Ramp]

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
        stages = [
            ("ramp", s.rows)
            if isinstance(s, Ramp)
            else ([*map(float, s.weights)], s.rows)
            for s in self.stages
        ]
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
