"""Sources of series: a file of one's own, and oscillations that are made."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from runner.data import csv_lines
from runner.data.dataset import Dataset
from runner.data.labels import Channels
from runner.data.series.series import Series
from runner.data.source import DataSource
from runner.errors import UserError, nearest

_SPLITS = ("train", "held_out")
_FORMS = (".csv", ".npy")


@dataclasses.dataclass(frozen=True)
class Oscillations(DataSource):
    """`x_c(t) = Σ_k a_ck sin(2π t / p_k + φ_k) + ε/10`: made, not measured.

    Amplitudes a and periods p are those of all rows, φ a row's own: so a number follows
    from others of its channel and of other channels. p is 4 to 16 moments, a normal
    with variance `2 / num_waves`, so that a channel's is about 1.

    Attributes:
      split: "train" or "held_out", of which no row is the same.
      num_rows: Of a split.
      num_steps: T.
      channels: Number of them.
      num_waves: Of the sum.
      seed: Of all draws.

    Raises:
      UserError: There is no such split, or a number is below 1.
    """

    split: Literal["train", "held_out"] = "train"
    num_rows: int = 512
    num_steps: int = 24
    channels: int = 6
    num_waves: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        _check_split(self.split)
        for name in ("num_rows", "num_steps", "channels", "num_waves"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")

    def check(self) -> None:
        pass

    def load(self, *, cache: str = "") -> Dataset:
        del cache
        draw = np.random.default_rng(self.seed)
        periods = draw.uniform(4.0, 16.0, self.num_waves)
        scale = np.sqrt(2.0 / self.num_waves)
        amplitudes = draw.normal(0.0, scale, (self.num_waves, self.channels))
        draw = np.random.default_rng((self.seed, _SPLITS.index(self.split)))
        phases = draw.uniform(0.0, 2 * np.pi, (self.num_rows, 1, self.num_waves))
        angles = 2 * np.pi * np.arange(self.num_steps)[:, None] / periods
        values = np.sin(angles + phases) @ amplitudes
        values = values + draw.normal(0.0, 0.1, values.shape)
        return Series(
            values=values.astype(np.float32),
            vocabulary=Channels([f"channel {i}" for i in range(self.channels)]),
            description={"split": self.split, "made": "sums of sines, and noise"},
        )


@dataclasses.dataclass(frozen=True)
class SeriesFile(DataSource):
    """Windows of `num_steps` moments of a file, which follow each other.

    `.csv` has a head, a column a channel, and a line a moment; an empty field, or NaN,
    is a missing number. `.npy` is `[moments channels]`. The last moments are held out.
    Each channel is standardized by mean and deviation of the training moments.

    Attributes:
      path: Of the file.
      split: "train" or "held_out".
      num_steps: Of a window.
      held_out: Share of the moments, above 0 and below 1.
      skip: Columns that are no channels, such as a date.

    Raises:
      UserError: There is no such split, or a number is out of its range.
    """

    path: str
    split: Literal["train", "held_out"] = "train"
    num_steps: int = 96
    held_out: float = 0.2
    skip: Sequence[str] = ()

    def __post_init__(self) -> None:
        _check_split(self.split)
        if self.num_steps < 1:
            raise UserError(f"num_steps must be at least 1, got {self.num_steps}")
        if not 0.0 < self.held_out < 1.0:
            raise UserError(
                f"held_out must be above 0 and below 1, got {self.held_out}"
            )

    def check(self) -> None:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise UserError(f"no such file of series: {self.path}")
        if path.suffix not in _FORMS:
            raise UserError(
                f"{self.path}: a file of series is {' or '.join(_FORMS)}"
                f"{nearest(path.suffix, _FORMS)}"
            )

    def load(self, *, cache: str = "") -> Dataset:
        del cache
        self.check()
        names, moments = self._read(Path(self.path).expanduser())
        first = len(moments) - round(self.held_out * len(moments))
        train, held_out = moments[:first], moments[first:]
        empty = np.isnan(train).all(0)
        if empty.any():
            raise UserError(
                f"{self.path}: {names[int(empty.argmax())]!r} has no number to train on"
            )
        mean, deviation = np.nanmean(train, 0), np.nanstd(train, 0)
        part = train if self.split == "train" else held_out
        part = (part - mean) / np.where(deviation > 0.0, deviation, 1.0)
        count = len(part) // self.num_steps
        if count < 1:
            raise UserError(
                f"{self.path}: {len(part):,} moments to be {self.split}, fewer than "
                f"num_steps={self.num_steps}"
            )
        windows = part[: count * self.num_steps].reshape(count, self.num_steps, -1)
        return Series(
            values=windows.astype(np.float32),
            vocabulary=Channels(names),
            description={"split": self.split},
        )

    def _read(self, path: Path) -> tuple[list[str], np.ndarray]:
        """Return the names of the channels, and `[moments channels]` float64."""
        if path.suffix == ".csv":
            return self._read_csv(path)
        try:
            moments = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: no array of numpy: {error}") from None
        if not isinstance(moments, np.ndarray):
            raise UserError(f"{path}: wanted: an array, as np.save writes it; got .npz")
        if moments.ndim != 2 or moments.dtype.kind not in "fiu" or not moments.size:
            raise UserError(
                f"{path}: series must be numbers [moments channels], got "
                f"{moments.dtype} {list(moments.shape)}"
            )
        names = [f"channel {i}" for i in range(moments.shape[1])]
        return names, moments.astype(np.float64)

    def _read_csv(self, path: Path) -> tuple[list[str], np.ndarray]:
        head, *lines = csv_lines.read(path) or [[]]
        unknown = [name for name in self.skip if name not in head]
        if unknown:
            raise UserError(
                f"{path}: no column {unknown[0]!r} to skip{nearest(unknown[0], head)}"
            )
        places = [i for i, name in enumerate(head) if name not in self.skip]
        if not places or not lines:
            raise UserError(f"{path}: holds no series")
        moments = np.empty((len(lines), len(places)))
        for number, line in enumerate(lines):
            for column, place in enumerate(places):
                try:
                    moments[number, column] = float(line[place] or "nan")
                except (ValueError, IndexError):
                    field = line[place] if place < len(line) else "nothing"
                    raise UserError(
                        f"{path}, line {number + 2}: {head[place]!r} is no number: "
                        f"{field!r}; skip=({head[place]!r},) leaves a column out"
                    ) from None
        return [head[place] for place in places], moments


def _check_split(split: str) -> None:
    """Refuse another split.

    Raises:
      UserError: with the nearest.
    """
    if split not in _SPLITS:
        raise UserError(
            f"split must be one of {', '.join(_SPLITS)}, got {split!r}"
            f"{nearest(split, _SPLITS)}"
        )
