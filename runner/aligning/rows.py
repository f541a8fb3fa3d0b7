"""Rows of data, each with its text in a teacher's tokens and the spans of both."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from runner.aligning.shared_tokens import SharedTokens
from runner.aligning.spans import common_spans, ends_of, first_and_last, without
from runner.aligning.texts import Run, Special, encoded, prefix_of, runs_of
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError

PREFIX = "teacher/"
Rows = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class _Segment:
    """Part of a row that is of one document.

    Attributes:
      row: in the batch.
      number: of the segment in the row.
      places: of its targets.
      begin: where the first target begins in the text.
      ends: where each target ends.
      dropped: targets of whose spans nothing is to be said.
      parts: its text.
    """

    row: int
    number: int
    places: np.ndarray
    begin: int
    ends: np.ndarray
    dropped: np.ndarray
    parts: list[Run | Special]


@dataclasses.dataclass(frozen=True, eq=False)
class RowAligner:
    """The teacher's rows of the text of rows.

    Attributes:
      student: vocabulary of the rows.
      teacher: the other vocabulary.
      positions: places of a teacher's row.
    """

    student: Vocabulary
    teacher: Vocabulary
    positions: int

    @functools.cached_property
    def shared(self) -> SharedTokens:
        """The tokens that both have."""
        return SharedTokens.of(self.student, self.teacher)

    @functools.cached_property
    def _special(self) -> np.ndarray:
        return self.shared.of_special(self.student)

    @functools.cached_property
    def _prefixes(self) -> tuple[bytes, bytes]:
        return prefix_of(self.student), prefix_of(self.teacher)

    def align(self, rows: Rows, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return arrays to join to some rows.

        Args:
          rows: tokens, targets, mask and segment_ids, `[b t]`.
          numbers: of the rows, for messages.

        Returns:
          `teacher/tokens`, `teacher/targets`, `teacher/segment_ids` and
            `teacher/positions`: int32 `[b u]`, the teacher's rows.
          `teacher/own_spans`: int32 `[b u]`, number of each of its targets' span.
          `teacher/spans`: int32 `[b t]`, number of each target's span; 0 of none.
          `teacher/first`, `teacher/last`: int32 `[b t]`, places in the teacher's row of
            the first and the last token of the span.
          `teacher/known`: bool `[b t]`, the first token of each span.

        Raises:
          UserError: A row takes more places than there are.
        """
        segments = [
            segment for row in range(len(numbers)) for segment in self._cut(rows, row)
        ]
        runs = [x for segment in segments for x in segment.parts if isinstance(x, Run)]
        tokens = iter(encoded(self.teacher, runs, prefix=self._prefixes[1]))
        shape, own_shape = rows["tokens"].shape, (len(numbers), self.positions)
        own = {
            name: np.zeros(own_shape, np.int32)
            for name in ("tokens", "targets", "segment_ids", "positions", "own_spans")
        }
        of_student = {
            name: np.zeros(shape, np.int32) for name in ("spans", "first", "last")
        }
        used, count = np.zeros((2, len(numbers)), np.int64)
        for segment in segments:
            row, start = segment.row, int(used[segment.row])
            ids, ends = self._joined(segment, tokens)
            used[row] += len(ids)
            if used[row] > self.positions:
                continue  # refused below, with the places that it takes
            spans, own_spans = common_spans(segment.ends, ends, begin=segment.begin)
            spans = without(spans, segment.dropped)
            own_spans = np.where(np.isin(own_spans, spans), own_spans, 0)
            first, last = first_and_last(own_spans, spans)

            at = slice(start, start + len(ids))
            own["tokens"][row, at] = [self.teacher.begin, *ids[:-1]][: len(ids)]
            own["targets"][row, at] = ids
            own["segment_ids"][row, at] = segment.number
            own["positions"][row, at] = np.arange(len(ids))
            own["own_spans"][row, at] = np.where(own_spans, own_spans + count[row], 0)
            at = segment.places
            of_student["spans"][row, at] = np.where(spans, spans + count[row], 0)
            of_student["first"][row, at] = np.where(spans, first + start, 0)
            of_student["last"][row, at] = np.where(spans, last + start, 0)
            count[row] += spans.max(initial=0)
        self._require_room(used, numbers)
        spans = of_student["spans"]
        before = np.pad(spans, ((0, 0), (1, 0)))[:, :-1]
        known = (spans > 0) & (spans != before)
        return {
            **{PREFIX + name: x for name, x in (own | of_student).items()},
            f"{PREFIX}known": known,
        }

    def _cut(self, rows: Rows, row: int) -> list[_Segment]:
        """Return the segments of a row: the text of their inputs and last target."""
        segments = []
        numbers = rows["segment_ids"][row]
        for number in range(1, int(numbers.max(initial=0)) + 1):
            places = np.flatnonzero(numbers == number)
            if not len(places):
                continue
            mask = rows["mask"][row, places]
            targets = rows["targets"][row, places]
            ids = rows["tokens"][row, places].astype(np.int64)
            last = targets[-1:] if mask[-1] else targets[:0]
            ids = np.concatenate([ids, last.astype(np.int64)])
            if not mask[-1]:
                places, mask, targets = places[:-1], mask[:-1], targets[:-1]
            segments.append(self._segment(row, number, places, ids, mask, targets))
        return segments

    def _segment(
        self,
        row: int,
        number: int,
        places: np.ndarray,
        ids: np.ndarray,
        mask: np.ndarray,
        targets: np.ndarray,
    ) -> _Segment:
        """Return a segment of the ids that its inputs and its last target are.

        Args:
          row: In the batch.
          number: Of the segment.
          places: Of the targets, which are `ids[1:]`.
          ids: `[n + 1]`.
          mask: Which targets count.
          targets: As the row has them; another one than `ids` has is dropped.
        """
        special = self._special[ids]
        begins = ids[0] == self.student.begin
        special[0] = -1 if begins else special[0]
        lengths = np.where(special >= 0, 1, self.student.token_bytes[ids])
        lengths = lengths.astype(np.int64)
        alien = lengths == 0

        # A space that the student's tokenizer puts before a document is none of it.
        prefix, start = self._prefixes[0], int(begins)
        data = [self.student.pieces[i] for i in ids.tolist()]
        if begins and prefix and len(ids) > 1 and data[1].startswith(prefix):
            data[1] = data[1][len(prefix) :]
            lengths[1] -= len(prefix)

        # Text between special tokens.
        starts = np.cumsum(lengths) - lengths
        parts: list[Run | Special] = []
        for place in [*np.flatnonzero(special >= 0).tolist(), len(ids)]:
            if start < place:
                parts += runs_of(b"".join(data[start:place]), int(starts[start]))
            if place < len(ids):
                parts.append(Special(int(special[place]), int(starts[place])))
            start = place + 1
        return _Segment(
            row=row,
            number=number,
            places=places,
            begin=int(lengths[0]),
            ends=ends_of(lengths)[1:],
            dropped=alien[1:] | ~mask | (targets != ids[1:]),
            parts=parts,
        )

    def _joined(self, segment: _Segment, tokens) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and ends of a segment's parts, of which `tokens` are the runs'."""
        ids, ends = [np.zeros(0, np.int64)], [np.zeros(0)]
        for part in segment.parts:
            if isinstance(part, Special):
                ids.append(np.array([part.token]))
                ends.append(np.array([part.start + 1.0]))
            else:
                of_run, ends_of_run = next(tokens)
                ids.append(of_run)
                ends.append(ends_of_run)
        return np.concatenate(ids), np.concatenate(ends)

    def _require_room(self, used: np.ndarray, numbers: np.ndarray) -> None:
        """Refuse rows that take more places than there are.

        Raises:
          UserError: With the row and the places that it takes.
        """
        if (used > self.positions).any():
            place = int(used.argmax())
            raise UserError(
                f"teacher: row {numbers[place]} takes {used[place]} of the teacher's "
                f"tokens, and its rows have {self.positions}: positions={used[place]} "
                "or more"
            )
