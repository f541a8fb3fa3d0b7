"""Documents laid end to end and cut into rows of equal length.

A document of `n` ids takes `n + 1` positions, with inputs `[end] + ids` and targets
`ids + [end]`. So each id, and the end, is predicted exactly once, and the first id of a
document is predicted from `end` alone.
"""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Packing:
    """Rows by number, each computed without reading any other.

    Attributes:
      tokens: `[ids]`, the ids of all documents one after the other, without ends.
      offsets: `[documents + 1]` int64, where each document begins in `tokens`.
      end: Id that ends a document.
      sequence_length: Positions in a row.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    end: int
    sequence_length: int

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """`[documents + 1]`, where each document begins among all positions."""
        return self.offsets + np.arange(len(self.offsets), dtype=np.int64)

    @property
    def positions(self) -> int:
        """Predictions in all rows: the ids, and one end per document."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        """Number of rows; only the last one may hold padding."""
        return -(-self.positions // self.sequence_length)

    def rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows `numbers` `[b]`, each array `[b, sequence_length]`.

        Returns:
          `tokens`, `targets`: int32; `end` at padding.
          `mask`: bool, false at padding.
          `segment_ids`: int32, 1 for the first document in the row, 0 at padding.
          `positions`: int32, 0 where a document or the row begins.
        """
        # Place of each position among all positions, and the document it lies in.
        row_begins = numbers.astype(np.int64)[:, None] * self.sequence_length
        place = row_begins + np.arange(self.sequence_length)
        mask = place < self.positions
        place = np.minimum(place, self.positions - 1)
        document = np.searchsorted(self._starts, place, side="right") - 1
        begins, after = self._starts[document], self._starts[document + 1]

        # `tokens` holds no ends, so each earlier document is one place shorter there.
        target_at = place - document
        inputs = self.tokens[np.maximum(target_at - 1, 0)]
        inputs = np.where(mask & (place > begins), inputs, self.end)
        targets = self.tokens[np.minimum(target_at, len(self.tokens) - 1)]
        targets = np.where(mask & (place + 1 < after), targets, self.end)
        segment_ids = np.where(mask, document - document[:, :1] + 1, 0)
        positions = mask * (place - np.maximum(begins, row_begins))
        return {
            "tokens": inputs.astype("i4"),
            "targets": targets.astype("i4"),
            "mask": mask,
            "segment_ids": segment_ids.astype("i4"),
            "positions": positions.astype("i4"),
        }
