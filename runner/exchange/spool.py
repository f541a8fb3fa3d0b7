"""Scores of rows, collected on the disk in whatever order a file has them."""

import math
from pathlib import Path

import numpy as np

from runner.exchange.formats.scored import Scored
from runner.exchange.segments import Segment


class Spool:
    """Ids and scores of each position, in files that the system pages.

    Attributes:
      ids: `[rows T width]` int32.
      scores: `[rows T width]` float64, best first; -inf where there are fewer.
      known: `[rows T]` bool, whether a position has enough entries.
    """

    def __init__(
        self, directory: Path, *, rows: int, length: int, width: int, least: int
    ) -> None:
        """Make empty files.

        Args:
          directory: Of the files.
          rows: Of the data.
          length: Positions in a row.
          width: Entries that a position can have here; the best are taken.
          least: Entries below which a position counts as not scored.
        """
        self._directory, self._shape = directory, (rows, length)
        self._width, self._least = width, least
        self.ids = self._array("ids", np.int32, width)
        self.scores = self._array("scores", np.float64, width)
        self.known = self._array("known", np.bool_)

    def add(self, segment: Segment, scored: Scored) -> None:
        """Take the best entries of each place of a segment that has enough."""
        row, start, length = segment
        if self.known[row, start : start + length].all():
            return
        length = min(length, len(scored.scores))
        ids, scores = scored.ids[:length], scored.scores[:length]
        enough = (scores > -math.inf).sum(-1) >= self._least
        best = np.argsort(-scores[enough], -1, kind="stable")[:, : self._width]
        places, columns = start + np.flatnonzero(enough), slice(best.shape[-1])
        self.ids[row, places, columns] = np.take_along_axis(ids[enough], best, -1)
        scores = np.take_along_axis(scores[enough], best, -1)
        self.scores[row, places] = -math.inf
        self.scores[row, places, columns] = scores
        self.known[row, places] = True

    def _array(self, name: str, dtype: type, *width: int) -> np.ndarray:
        path, shape = self._directory / f"{name}.spool", (*self._shape, *width)
        return np.memmap(path, dtype, "w+", shape=shape)
