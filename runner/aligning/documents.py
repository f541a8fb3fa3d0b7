"""Documents in the tokens of two vocabularies, and the spans of both."""

import dataclasses
import functools

import numpy as np

from runner.aligning.spans import common_spans, ends_of, first_and_last, without
from runner.aligning.texts import common_prefix, prefix_of
from runner.data.text.packed_text import PackedText
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError

_DOCUMENTS = 256
_ROWS = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class DocumentSpans:
    """Spans of one document; its end is the last token of both.

    Attributes:
      student: `[n + 1]`, number of each token's span, from 1; 0 of none.
      first: of each span, the first token of the teacher's; by number.
      last: and the last one.
    """

    student: np.ndarray
    first: np.ndarray
    last: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class TwoPackings:
    """The same documents, packed into rows of two vocabularies' tokens.

    Attributes:
      student: rows of the student's.
      teacher: rows of the teacher's.

    Raises:
      UserError: These are not the same documents.
    """

    student: PackedText
    teacher: PackedText

    def __post_init__(self) -> None:
        if self.student.documents != self.teacher.documents:
            raise UserError(
                "teacher: its records are of other documents than the data: "
                f"{self.teacher.documents}, this is {self.student.documents}"
            )

    @functools.cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and position of each of the teacher's targets; -1 of none."""
        packing = self.teacher.packing
        row = np.full(packing.positions, -1, np.int32)
        position = np.zeros(packing.positions, np.int32)
        for start in range(0, len(self.teacher), _ROWS):
            numbers = np.arange(start, min(start + _ROWS, len(self.teacher)))
            documents, index, mask = targets_at(self.teacher, numbers)
            at = self.starts(documents[mask]) + index[mask]
            row[at] = np.broadcast_to(numbers[:, None], mask.shape)[mask]
            position[at] = np.nonzero(mask)[1]
        return row, position

    def starts(self, documents: np.ndarray) -> np.ndarray:
        """Return the place of each document's first target among the teacher's."""
        return self.teacher.packing.offsets[documents] + documents

    @functools.cached_property
    def spans(self):
        """The spans of a document by its number; those of the last ones stay."""
        return functools.lru_cache(maxsize=_DOCUMENTS)(self._spans)

    def _spans(self, document: int) -> DocumentSpans:
        sides = self.student, self.teacher
        pieces = [_pieces(x, document) for x in sides]
        texts = [b"".join(x) for x in pieces]
        same = common_prefix(*texts)
        end = max(map(len, texts)) + 1
        ends, without_text = [], []
        for own, text in zip(pieces, texts, strict=True):
            lengths = np.array([len(piece) for piece in own], np.int64)
            places = ends_of(lengths)
            if len(text) > same or len(texts[0]) != len(texts[1]):
                places = np.where(places > same, same + 0.5, places)
            ends.append(np.append(places, end))
            without_text.append(np.append(lengths == 0, False))
        student, teacher = common_spans(ends[0], ends[1], begin=0)
        # A token of one side alone, as a special one may be, says nothing of a text.
        shared = without(student, without_text[0])
        teacher = without(teacher, without_text[1])
        shared = np.where(np.isin(shared, teacher), shared, 0)
        numbers = np.arange(int(student.max(initial=0)) + 1)
        first, last = first_and_last(teacher, numbers)
        return DocumentSpans(student=shared, first=first, last=last)


def targets_at(
    dataset: PackedText, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return documents, places in them and mask of the targets of rows, `[b T]`."""
    if dataset.selection is not None:
        numbers = dataset.selection[numbers]
    return dataset.packing.targets_at(numbers)


def _pieces(dataset: PackedText, document: int) -> list[bytes]:
    """Return the bytes of each token of a document, without a prefix of the whole."""
    ids = dataset.packing.document(document).tolist()
    pieces = [dataset.vocabulary.pieces[i] for i in ids]
    prefix = _prefix(dataset.vocabulary)
    if prefix and pieces and pieces[0].startswith(prefix):
        pieces[0] = pieces[0][len(prefix) :]
    return pieces


@functools.lru_cache(maxsize=8)
def _prefix(vocabulary: Vocabulary) -> bytes:
    return prefix_of(vocabulary)
