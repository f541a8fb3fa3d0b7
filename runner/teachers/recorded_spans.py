"""Records of a teacher of another tokenizer, joined to the student's rows by text."""

from collections.abc import Mapping, Sequence
from typing import Any

import losses
from models.base import Batch
from runner.aligning.documents import TwoPackings
from runner.aligning.recorded import RecordedSpans
from runner.aligning.rows import PREFIX
from runner.data.dataset import Dataset
from runner.data.joined_rows import Join
from runner.data.text.packed_text import PackedText
from runner.errors import UserError
from runner.teachers.base import LoadedTeacher, TeacherTrunk
from runner.teachers.offline import LoadedRecords

Tree = Any
SUMS = frozenset({"spans/log_probability", "spans/log_probability_before"})
"""Paths of the log-probabilities of a span, and of all of it but its last token."""


class LoadedRecordedSpans(LoadedTeacher):
    """Probabilities of spans from records: it has no arrays, all comes with the batch.

    Args:
      records: of the teacher's own rows.
      own: these rows.
    """

    def __init__(self, records: LoadedRecords, own: PackedText):
        self._records, self._own = records, own
        self._joins = records.joins(own)  # refuses records of other rows
        self.cautions = records.cautions
        self.stored = losses.RecordSpec(mode="top_k", temperatures=(), partial=True)

    def offers(self) -> frozenset[str]:
        return SUMS

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "aligned records", "records": dict(self._records.describe())}

    def covers(self, dataset: Dataset) -> bool:
        return (
            isinstance(dataset, PackedText) and dataset.documents == self._own.documents
        )

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        spans = RecordedSpans(
            packings=TwoPackings(packed(dataset, "the data"), self._own),
            records=self._records.records,
            joins=self._joins,
        )
        return [spans.align]

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        del frozen, ema, batch
        if logits:
            raise UserError(
                "teacher: records in another tokenizer's tokens give spans their "
                "probability alone (SpanLikelihood); distributions want a live teacher"
            )

        def outputs(
            head_params: Tree, tokens: Tree, batch: Batch
        ) -> losses.TeacherOutputs:
            del head_params, tokens
            return losses.TeacherOutputs(
                intermediates={
                    path: batch[PREFIX + path.replace("spans/", "span_")]
                    for path in sorted(capture)
                }
            )

        return TeacherTrunk(tokens={}, head_params={}, outputs=outputs)


def packed(dataset: Dataset, whose: str) -> PackedText:
    """Return rows that are cut from documents.

    Raises:
      UserError: They are others.
    """
    if not isinstance(dataset, PackedText):
        raise UserError(f"teacher: records are joined by text, and {whose} is not text")
    return dataset
