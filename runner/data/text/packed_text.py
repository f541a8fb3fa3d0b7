"""Dataset of documents packed into rows of tokens."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from runner.data.dataset import Baseline, Dataset
from runner.data.repeats import Repeats, repeated
from runner.data.text import text_baselines
from runner.data.text.packing import Packing, WholePacking
from runner.data.text.tokens import Tokens
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError, nearest

_SHOWN_IDS = 12

PackingName = Literal["cut", "whole"]

FORMAT = 1  # version of the packing, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PackedText(Dataset):
    """Rows of `sequence_length` positions, cut from documents.

    Attributes:
      packing: Ids of the documents, and the rows cut from them.
      document_bytes: `[documents]`, UTF-8 bytes of each document's text.
      vocabulary: Of the ids.
      documents: Digest of the documents' names and contents.
      read: Yields the texts, one per document, for baselines over bytes.
      description: Further entries of `describe`.
    """

    packing: Packing
    document_bytes: np.ndarray
    vocabulary: Vocabulary  # pyright: ignore[reportIncompatibleVariableOverride] - narrower
    documents: str
    read: Callable[[], Iterable[str]]
    description: Mapping[str, Any]

    unit: ClassVar[str] = "token"

    @property
    def num_all(self) -> int:
        return len(self.packing)

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return tokens, targets, mask, segment_ids, positions, each `[b T]`."""
        return self.packing.rows(numbers)

    @property
    def targets_per_row(self) -> int:
        return self.sequence_length

    @property
    def num_documents(self) -> int:
        return len(self.packing.offsets) - 1

    def documents_at(self, numbers: np.ndarray) -> np.ndarray:
        return self.packing.documents_at(numbers)

    def baselines(self, held_out: Dataset) -> list[Baseline]:
        assert isinstance(held_out, PackedText)
        return text_baselines.baselines(
            self.packing,
            held_out.packing,
            vocab_size=self.vocabulary.size,
            texts=held_out.texts(),
            num_bytes=held_out.num_bytes,
        )

    def repeats(self, held_out: Dataset) -> Repeats | None:
        """Return the documents that are equal, id by id."""
        if not isinstance(held_out, PackedText):
            return None
        if held_out.vocabulary.digest != self.vocabulary.digest:
            return None
        documents = held_out.documents_in_rows()
        both = repeated(
            map(self.packing.document, self.documents_in_rows().tolist()),
            map(held_out.packing.document, documents.tolist()),
        )
        if not len(both):
            return None
        start = held_out.packing.document(int(documents[both[0]]))[:_SHOWN_IDS]
        first = repr(self.vocabulary.decode(start))
        return Repeats(len(both), len(documents), "document", first)

    def documents_in_rows(self) -> np.ndarray:
        """Return the numbers of the documents of which these rows hold a part."""
        if self.selection is None:
            return np.arange(len(self.packing.offsets) - 1)
        return self.packing.documents(self.selection)

    @property
    def sequence_length(self) -> int:
        """Positions in a row."""
        return self.packing.sequence_length

    def texts(self) -> Iterable[str]:
        """Yield the documents as text."""
        return self.read()

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all documents."""
        return int(self.document_bytes.sum())

    def text_bytes(self, numbers: np.ndarray) -> float:
        """Return the UTF-8 bytes of the documents in the rows `numbers` `[b]`.

        Exact over whole documents. A part of a document has the share of its bytes that
        the part's ids have of the pieces of all its ids.
        """
        if self.selection is not None:
            numbers = self.selection[numbers]
        elif len(numbers) == self.num_all:
            return float(self.num_bytes)
        shares = self.packing.shares(numbers, self.vocabulary.token_bytes)
        return float(sum(self.document_bytes[i] * x for i, x in shares.items()))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of documents, vocabulary, ids, ends, lengths and format of rows."""
        header = (
            f"retort rows {FORMAT} {self.documents} {self.vocabulary.digest} "
            f"{self.sequence_length} {self.packing.end} "
        )
        if self.packing.begin != self.packing.end:  # where they are one, as ever
            header += f"begin {self.packing.begin} "
        if isinstance(self.packing, WholePacking):
            header += "whole "
        return self.digest(header, self.packing.offsets, self.packing.tokens)

    def describe(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "documents": len(self.packing.offsets) - 1,
            "bytes": self.num_bytes,
            "tokens": self.packing.positions,
            "rows": len(self),
            "sequence_length": self.sequence_length,
            "vocabulary": self.vocabulary.describe(),
            "begin": self.vocabulary.tokenizer.id_to_token(self.packing.begin),
            "end": self.vocabulary.tokenizer.id_to_token(self.packing.end),
            "packing": "whole" if isinstance(self.packing, WholePacking) else "cut",
            **self.description,
        }


def pack(
    tokens: Tokens,
    *,
    vocabulary: Vocabulary,
    sequence_length: int,
    documents: str,
    read: Callable[[], Iterable[str]],
    description: Mapping[str, Any],
    packing: PackingName = "cut",
) -> PackedText:
    """Return the dataset of some documents' ids.

    Args:
      tokens: Ids of the documents.
      vocabulary: Of the ids.
      sequence_length: Positions in a row.
      documents: Digest of the documents' names and contents.
      read: Yields the texts, one per document.
      description: Further entries of `Dataset.describe`.
      packing: Whether rows are cut from all documents laid end to end, or documents lie
        whole in rows.

    Raises:
      UserError: There are no ids.
    """
    if not len(tokens.ids):
        raise UserError("the data holds no tokens at all")
    rows = (WholePacking if packing == "whole" else Packing)(
        tokens=tokens.ids,
        offsets=tokens.offsets,
        begin=vocabulary.begin,
        end=vocabulary.end,
        sequence_length=sequence_length,
    )
    return PackedText(
        packing=rows,
        document_bytes=tokens.document_bytes,
        vocabulary=vocabulary,
        documents=documents,
        read=read,
        description=description,
    )


def require_packing(name: str) -> None:
    """Refuse a packing that there is not.

    Raises:
      UserError: With the nearest.
    """
    if name not in get_args(PackingName):
        raise UserError(f"packing is {name!r}{nearest(name, get_args(PackingName))}")
