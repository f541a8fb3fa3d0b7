"""Dataset of series of numbers, in memory."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Baseline, Dataset
from runner.data.labels import Channels
from runner.errors import UserError

FORMAT = 1  # version of the rows' arrays, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Series(Dataset):
    """Windows of series, one a row: several channels at each of T moments.

    A moment is what a loss has one value of, as of a token. What an evaluation measures
    is the mean absolute error of the hidden numbers.

    Attributes:
      values: `[n T c]` float32, NaN where a number is missing.
      hidden: `[n T c]`, the numbers that a model is not to see; None for none.
      vocabulary: The channels.
      description: Further entries of `describe`.

    Raises:
      UserError: The values have another type or shape, or one is infinite.
    """

    values: np.ndarray
    hidden: np.ndarray | None = None
    vocabulary: Channels  # pyright: ignore[reportIncompatibleVariableOverride] - narrower
    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    unit: ClassVar[str] = "moment"

    def __post_init__(self) -> None:
        shape = self.values.shape
        if self.values.dtype != np.float32 or len(shape) != 3:
            raise UserError(
                f"series must be float32 [rows moments channels], got "
                f"{self.values.dtype} {list(shape)}"
            )
        if not len(self.values):
            raise UserError("the data holds no series at all")
        if shape[2] != self.vocabulary.size:
            raise UserError(f"series of {shape[2]} channels, {self.vocabulary.summary}")
        if np.isinf(self.values).any():
            raise UserError("series must be finite, or NaN where a number is missing")

    @property
    def num_all(self) -> int:
        return len(self.values)

    @property
    def targets_per_row(self) -> int:
        return self.values.shape[1]

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return values, observed and hidden `[b T c]`; targets, mask ... `[b T]`.

        A number is observed, hidden or missing; what is missing is 0 in `values`.
        """
        values = self.values[numbers]
        there = ~np.isnan(values)
        hidden = np.zeros_like(there)
        if self.hidden is not None:
            hidden = there & self.hidden[numbers]
        moments = values.shape[:2]
        return {
            "values": np.where(there, values, np.float32(0.0)),
            "observed": there & ~hidden,
            "hidden": hidden,
            "targets": np.zeros(moments, np.int32),  # there are no classes
            "mask": np.ones(moments, bool),
            "segment_ids": np.ones(moments, np.int32),
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the numbers, what is hidden, the channels and the selection."""
        hidden = () if self.hidden is None else (np.packbits(self.hidden),)
        header = f"retort series {FORMAT} {self.vocabulary.digest} {self.values.shape} "
        return self.digest(header, self.values.astype("<f4"), *hidden)

    def describe(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "unit": self.unit,
            "rows": len(self),
            "shape": list(self.values.shape[1:]),
            "missing": round(float(np.isnan(self.values).mean()), 4),
            "hidden": 0.0 if self.hidden is None else float(self.hidden.mean()),
            "vocabulary": self.vocabulary.describe(),
            **self.description,
        }

    def baselines(self, held_out: Dataset) -> list[Baseline]:
        """Return errors of a channel's mean, its last number, and a line between two.

        Each of the hidden numbers; the mean stands in where there is no other.
        """
        assert isinstance(held_out, Series)
        train, test = (data.rows(np.arange(len(data))) for data in (self, held_out))
        counts = np.maximum(train["observed"].sum((0, 1)), 1)
        means = (train["values"] * train["observed"]).sum((0, 1)) / counts
        guesses = {
            "mean of the channel": np.broadcast_to(means, test["values"].shape),
            "last number": _each(_last, test, means),
            "line between two": _each(_between, test, means),
        }
        hidden = test["hidden"]
        if not hidden.any():
            return []
        return [
            Baseline(
                name,
                nats_per_token=float(np.abs(guess - test["values"])[hidden].mean()),
            )
            for name, guess in guesses.items()
        ]


def _each(guess: Any, rows: Mapping[str, np.ndarray], means: np.ndarray) -> np.ndarray:
    """Return guesses `[n T c]`, channel by channel; means where nothing is observed."""
    guesses = np.broadcast_to(means, rows["values"].shape).copy()
    for row, channel in np.ndindex(len(guesses), len(means)):
        at = np.flatnonzero(rows["observed"][row, :, channel])
        if len(at):
            numbers = rows["values"][row, at, channel]
            places = np.arange(guesses.shape[1])
            guesses[row, :, channel] = guess(places, at, numbers, means[channel])
    return guesses


def _last(
    places: np.ndarray, at: np.ndarray, numbers: np.ndarray, mean: float
) -> np.ndarray:
    before = np.searchsorted(at, places, side="right") - 1
    return np.where(before < 0, mean, numbers[before])


def _between(
    places: np.ndarray, at: np.ndarray, numbers: np.ndarray, mean: float
) -> np.ndarray:
    del mean
    return np.interp(places, at, numbers)
