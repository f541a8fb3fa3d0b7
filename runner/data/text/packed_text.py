"""Documents as rows of tokens."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Baseline, Dataset
from runner.data.text import text_baselines
from runner.data.text.packing import Packing
from runner.data.text.tokens import Tokens
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError

FORMAT = 1  # of rows; a change of the packing is a new number


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PackedText(Dataset):
    """Rows of `sequence_length` positions, cut from documents; see `packing`.

    documents:   digest of the documents' names and contents.
    read:        the texts again, one a document, for baselines over bytes.
    description: what else `describe` is to say.
    """

    packing: Packing
    vocabulary: Vocabulary  # pyright: ignore[reportIncompatibleVariableOverride] - narrower
    documents: str
    read: Callable[[], Iterable[str]]
    description: Mapping[str, Any]

    unit: ClassVar[str] = "token"

    @property
    def num_all(self) -> int:
        return len(self.packing)

    def numbered(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Tokens, targets, mask, segment_ids, positions, each `[b T]`."""
        return self.packing.rows(numbers)

    @property
    def targets_per_row(self) -> int:
        return self.sequence_length

    def baselines(self, held_out: Dataset) -> list[Baseline]:
        assert isinstance(held_out, PackedText)
        return text_baselines.baselines(
            self.packing,
            held_out.packing,
            vocab_size=self.vocabulary.size,
            texts=held_out.texts(),
            num_bytes=held_out.num_bytes,
        )

    @property
    def sequence_length(self) -> int:
        """Positions in a row."""
        return self.packing.sequence_length

    def texts(self) -> Iterable[str]:
        """The documents as text."""
        return self.read()

    @functools.cached_property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all documents, by what their ids stand for."""
        counts = np.bincount(self.packing.tokens, minlength=self.vocabulary.size)
        return int(counts @ self.vocabulary.token_bytes.astype(np.int64))

    @functools.cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: equal when every row and its meaning is.

        Of the documents (names and contents), the vocabulary, the ids, the sequence
        length and the format of rows.
        """
        hashed = hashlib.blake2b(digest_size=16)
        hashed.update(
            f"retort rows {FORMAT} {self.documents} {self.vocabulary.digest} "
            f"{self.sequence_length} {self.packing.end} ".encode()
        )
        hashed.update(self.packing.offsets.data)
        hashed.update(self.packing.tokens.data)
        if self.chosen is not None:
            hashed.update(b" rows " + self.chosen.astype("<i8").tobytes())
        return hashed.hexdigest()

    def describe(self) -> dict[str, Any]:
        """For the work directory: sizes, fingerprint, vocabulary, origin."""
        return {
            "fingerprint": self.fingerprint,
            "documents": len(self.packing.offsets) - 1,
            "bytes": self.num_bytes,
            "tokens": self.packing.positions,
            "rows": len(self),
            "sequence_length": self.sequence_length,
            "vocabulary": self.vocabulary.describe(),
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
) -> PackedText:
    """The dataset of some documents' ids.

    Raises:
      UserError: there are none.
    """
    if not len(tokens.ids):
        raise UserError("the data holds no tokens at all")
    packing = Packing(
        tokens=tokens.ids,
        offsets=tokens.offsets,
        end=vocabulary.end,
        sequence_length=sequence_length,
    )
    return PackedText(
        packing=packing,
        vocabulary=vocabulary,
        documents=documents,
        read=read,
        description=description,
    )
