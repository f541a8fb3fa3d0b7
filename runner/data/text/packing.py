"""Documents laid end to end and cut into rows of equal length.

A document of `n` ids takes `n + 1` positions, with inputs `[begin] + ids` and targets
`ids + [end]`. So each id, and the end, is predicted exactly once, and the first id of a
document is predicted from `begin` alone.
"""

import dataclasses
import functools

import numpy as np

from runner.data.text.best_fit import best_fit


@dataclasses.dataclass(frozen=True, eq=False)
class Packing:
    """Rows by number, each computed without reading any other.

    Attributes:
      tokens: `[ids]`, the ids of all documents one after the other, without ends.
      offsets: `[documents + 1]` int64, where each document begins in `tokens`.
      begin: Id that begins a document.
      end: Id that ends a document.
      sequence_length: Positions in a row.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    begin: int
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
        places = self._places(numbers)
        place, mask, document = places.place, places.mask, places.document
        begins, after = self._starts[document], self._starts[document + 1]

        # `tokens` holds no ends, so each earlier document is one place shorter there.
        target_at = place - document
        inputs = self.tokens[np.maximum(target_at - 1, 0)]
        inputs = np.where(place > begins, inputs, self.begin)
        inputs = np.where(mask, inputs, self.end)
        targets = self.tokens[np.minimum(target_at, len(self.tokens) - 1)]
        targets = np.where(mask & (place + 1 < after), targets, self.end)
        segment_ids = np.where(mask, places.segment, 0)
        positions = mask * (place - places.begin)
        return {
            "tokens": inputs.astype("i4"),
            "targets": targets.astype("i4"),
            "mask": mask,
            "segment_ids": segment_ids.astype("i4"),
            "positions": positions.astype("i4"),
        }

    def document(self, number: int) -> np.ndarray:
        """Return the ids of a document, `[ids]`, without its ends."""
        return self.tokens[self.offsets[number] : self.offsets[number + 1]]

    def documents(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers of the documents in the rows `numbers` `[b]`."""
        places = self._places(numbers)
        return np.unique(places.document[places.mask])

    def documents_at(self, numbers: np.ndarray) -> np.ndarray:
        """Return the number of the document of each position, `[b T]`."""
        return self._places(numbers).document

    def targets_at(
        self, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which target of which document stands at each position, `[b T]`.

        Returns:
          Documents; places of the targets in them, of which the last is the end; and
          the mask. Anything stands at padding.
        """
        places = self._places(numbers)
        index = places.place - self._starts[places.document]
        return places.document, index, places.mask

    def shares(self, numbers: np.ndarray, weights: np.ndarray) -> dict[int, float]:
        """Return the share of each document that lies in the rows `numbers` `[b]`.

        Args:
          numbers: Of the rows.
          weights: `[vocabulary]`, how much of a document an id is. A document of weight
            0 is shared out by its positions.

        Returns:
          By document, `Σ w(ids in the rows) / Σ w(ids)`.
        """
        places = self._places(numbers)
        place, document = places.place[places.mask], places.document[places.mask]
        at = np.minimum(place - document, len(self.tokens) - 1)
        is_end = place + 1 == self._starts[document + 1]
        weight = np.where(is_end, 0.0, weights[self.tokens[at]])
        documents, which = np.unique(document, return_inverse=True)
        inside = np.bincount(which, weight)
        positions = np.bincount(which)
        shares = {}
        for i, index in enumerate(documents.tolist()):
            ids = self.document(index)
            whole = float(weights[ids].sum(dtype=np.float64))
            by_position = positions[i] / (len(ids) + 1)
            shares[index] = float(inside[i] / whole if whole else by_position)
        return shares

    def _places(self, numbers: np.ndarray) -> "Places":
        """Return where the rows `numbers` `[b]` lie among all positions."""
        row_begins = numbers.astype(np.int64)[:, None] * self.sequence_length
        place = row_begins + np.arange(self.sequence_length)
        mask = place < self.positions
        place = np.minimum(place, self.positions - 1)
        document = np.searchsorted(self._starts, place, side="right") - 1
        return Places(
            place=place,
            mask=mask,
            document=document,
            segment=document - document[:, :1] + 1,
            begin=np.maximum(self._starts[document], row_begins),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """Positions of rows among all positions of the documents, each array `[b T]`.

    Attributes:
      place: Number of the position, of any where the mask is false.
      mask: Whether it is one, and no padding.
      document: That it is of.
      segment: Number within the row of the piece of a document, from 1.
      begin: Place where that piece begins.
    """

    place: np.ndarray
    mask: np.ndarray
    document: np.ndarray
    segment: np.ndarray
    begin: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class WholePacking(Packing):
    """Documents laid whole into rows, by best fit; rows end with padding.

    Only a document that is longer than a row is cut, into rows of its own and a rest.
    """

    @functools.cached_property
    def _pieces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Begin (a place), length and document of each piece, `[pieces]`."""
        lengths = np.diff(self._starts)
        counts = -(-lengths // self.sequence_length)
        document = np.repeat(np.arange(len(lengths)), counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        inside = (np.arange(len(document)) - first) * self.sequence_length
        begin = self._starts[document] + inside
        rest = self._starts[document + 1] - begin
        return begin, np.minimum(rest, self.sequence_length), document

    @functools.cached_property
    def _rows(self) -> list[list[int]]:
        """Pieces of each row."""
        return best_fit(self._pieces[1], self.sequence_length)

    def __len__(self) -> int:
        return len(self._rows)

    def _places(self, numbers: np.ndarray) -> Places:
        begins, lengths, documents = self._pieces
        shape = (len(numbers), self.sequence_length)
        place, document, segment, begin = (np.zeros(shape, np.int64) for _ in range(4))
        for row, number in enumerate(numbers.tolist()):
            at = 0
            for count, piece in enumerate(self._rows[number], start=1):
                length = int(lengths[piece])
                where = (row, slice(at, at + length))
                place[where] = begins[piece] + np.arange(length)
                document[where], segment[where] = documents[piece], count
                begin[where] = begins[piece]
                at += length
        return Places(place, segment > 0, document, segment, begin)
