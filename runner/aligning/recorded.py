"""Probabilities of spans, from records of a teacher over its own rows of a text."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from runner.aligning.documents import TwoPackings, targets_at
from runner.aligning.rows import PREFIX
from runner.data.joined_rows import Join, joined
from runner.errors import UserError
from runner.records import codes
from runner.records.reader import Records

IMPOSSIBLE = -1e5
"""The log-probability of a token that is none of the stored entries, nats."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RecordedSpans:
    """Spans of the student's rows, with what a teacher's records say of them.

    Attributes:
      packings: the rows of both.
      records: of the teacher's rows: their form.
      joins: what reads them beside these rows.
    """

    packings: TwoPackings
    records: Records
    joins: Sequence[Join]

    def __post_init__(self) -> None:
        layout, directory = self.records.layout, self.records.directory
        if layout.mode == "sampled":
            raise UserError(
                f"teacher: {directory} holds draws, which say nothing of spans; "
                "wanted: TopK(...) or Full()"
            )
        if layout.mode == "top_k" and 1.0 not in layout.temperatures:
            raise UserError(
                f"teacher: {directory} was recorded at temperatures "
                f"{', '.join(map(str, layout.temperatures)) or 'none'}, and spans "
                "are of temperature 1"
            )

    @property
    def _at_one(self) -> int:
        temperatures = self.records.layout.temperatures
        return temperatures.index(1.0) if 1.0 in temperatures else 0

    def align(
        self, rows: Mapping[str, np.ndarray], numbers: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return arrays to join to some rows, `[b t]`.

        Returns:
          `teacher/spans`: int32, number of each target's span; 0 of none.
          `teacher/known`: bool, the first token of each span.
          `teacher/span_log_probability`: float32, of each token's span, nats.
          `teacher/span_log_probability_before`: of all of it but its last token.

        Raises:
          UserError: A record is not what it should be.
        """
        del rows
        spans, wanted = self._cut(numbers)
        values = self._log_probabilities(wanted[:, 2:])
        sums = np.zeros(spans.shape, np.float32)
        before = np.zeros(spans.shape, np.float32)
        for row, own in enumerate(spans):
            mine = wanted[:, 0] == row
            span, log_p = wanted[mine, 1], values[mine]
            total = np.bincount(span, log_p, minlength=own.max(initial=0) + 1)
            is_last = np.append(span[1:] != span[:-1], True)[: len(span)]
            last = np.zeros_like(total)
            last[span[is_last]] = log_p[is_last]
            unknown = np.isnan(total)
            spans[row] = np.where(unknown[own], 0, own)
            sums[row], before[row] = total[spans[row]], (total - last)[spans[row]]
        previous = np.pad(spans, ((0, 0), (1, 0)))[:, :-1]
        known = (spans > 0) & (spans != previous)
        return {
            f"{PREFIX}spans": spans,
            f"{PREFIX}known": known,
            f"{PREFIX}span_log_probability": sums,
            f"{PREFIX}span_log_probability_before": before,
        }

    def _cut(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the spans that lie whole in rows, and the teacher's tokens of each.

        Returns:
          `[b t]` int32 numbers of spans, and `[n 3]` of the teacher's targets, in
          order: row of the batch, number of the span, place among the targets.
        """
        documents, index, mask = targets_at(self.packings.student, numbers)
        spans = np.zeros(documents.shape, np.int32)
        wanted = [np.zeros((0, 3), np.int64)]
        for row in range(len(numbers)):
            count = 0
            for document in np.unique(documents[row][mask[row]]).tolist():
                places = np.flatnonzero((documents[row] == document) & mask[row])
                of_document = self.packings.spans(document)
                first, last = index[row, places[[0, -1]]].tolist()
                own = of_document.student[first : last + 1].copy()
                # Spans that go on in other rows are not the row's.
                padded = np.pad(of_document.student, 1)
                own[np.isin(own, padded[[first, last + 2]])] = 0
                start = int(self.packings.starts(np.array(document)))
                numbered = np.zeros_like(own)
                for span in np.unique(own[own > 0]).tolist():
                    count += 1
                    numbered[own == span] = count
                    tokens = np.arange(
                        int(of_document.first[span]), int(of_document.last[span]) + 1
                    )
                    of_span = np.full((len(tokens), 3), (row, count, 0))
                    of_span[:, 2] = start + tokens
                    wanted.append(of_span)
                spans[row, places] = numbered
        return spans, np.concatenate(wanted)

    def _log_probabilities(self, targets: np.ndarray) -> np.ndarray:
        """Return `log p_y` of the teacher's targets `[n]`, nats; NaN where unknown."""
        rows, positions = (x[targets.ravel()] for x in self.packings.places)
        values = np.full(len(rows), np.nan)
        recorded = np.flatnonzero(rows >= 0)
        if not len(recorded):
            return values
        numbers, which = np.unique(rows[recorded], return_inverse=True)
        own_rows = self.packings.teacher.rows(numbers)
        arrays = joined(self.joins, own_rows, numbers)
        at = which, positions[recorded]
        log_p = target_log_probabilities(
            {name: x[at] for name, x in arrays.items()},
            own_rows["targets"][at],
            version=self.records.layout.format,
            at_one=self._at_one,
        )
        values[recorded] = log_p
        return values


def target_log_probabilities(
    arrays: Mapping[str, np.ndarray], targets: np.ndarray, *, version: int, at_one: int
) -> np.ndarray:
    """Return `log p_y`, nats, `[n]`, of best entries or whole rows; NaN where unknown.

    Args:
      arrays: as `Records.teacher_arrays` gives them, of positions, `[n ...]`.
      targets: y.
      version: format of the records.
      at_one: place of temperature 1 among the stored ones.
    """
    logits = codes.logits(arrays["teacher/drops"], version=version)
    if "teacher/ids16" in arrays:
        ids = codes.join_ids(arrays["teacher/ids16"], arrays.get("teacher/ids4"))
        logits = np.pad(logits, ((0, 0), (1, 0)))  # the best one's is not stored
        log_z = arrays["teacher/log_normalizers"][:, at_one]
    else:
        ids = np.arange(logits.shape[1])[None]
        log_z = np.log(np.exp(logits.astype(np.float64)).sum(axis=-1))
    is_target = ids == targets[:, None]
    at_target = np.where(is_target, logits, 0.0).sum(axis=-1)
    log_p = np.minimum(at_target - log_z, 0.0)
    log_p = np.where(is_target.any(axis=-1), log_p, IMPOSSIBLE)
    known = arrays.get("teacher/known")
    return log_p if known is None else np.where(known, log_p, np.nan)
