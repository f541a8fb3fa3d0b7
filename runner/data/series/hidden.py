"""Series with a share of their numbers hidden."""

import dataclasses

import numpy as np

from runner.data.dataset import Dataset
from runner.data.series.series import Series
from runner.data.source import DataSource
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class HiddenNumbers(DataSource):
    """Series of which each number is hidden with probability `share`.

    The same ones in every epoch and run: those that an evaluation measures, or that a
    training never sees. `models.Hidden` hides further ones, anew at each step.

    Attributes:
      data: The series.
      share: In [0, 1).
      length: Moments of a channel that are hidden at once; 1 for numbers on their own.
      seed: Of the draws.

    Raises:
      UserError: A number is out of its range.
    """

    data: DataSource
    share: float
    length: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0:
            raise UserError(f"share must be in [0, 1), got {self.share}")
        if self.length < 1:
            raise UserError(f"length must be at least 1, got {self.length}")

    def check(self) -> None:
        self.data.check()

    def load(self, *, cache: str = "") -> Dataset:
        data = self.data.load(cache=cache)
        if not isinstance(data, Series):
            raise UserError(
                f"HiddenNumbers is of series, the data has {data.vocabulary.summary}"
            )
        rows, moments, channels = data.values.shape
        shape = (rows, moments + self.length - 1, channels)
        begins = np.random.default_rng(self.seed).random(shape)
        # Hidden where one of `length` places begins a gap; all of none: 1 - share.
        begins = begins < 1.0 - (1.0 - self.share) ** (1.0 / self.length)
        gaps = [begins[:, i : i + moments] for i in range(self.length)]
        hidden = np.logical_or.reduce(gaps)
        if data.hidden is not None:
            hidden |= data.hidden
        return dataclasses.replace(data, hidden=hidden)
