"""Nodes of the graph that say what is trained or measured on."""

import abc
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from runner.data import cache as caching
from runner.data.text.documents import Digest, Documents, digest
from runner.data.text.tokenizer import TokenizerSource
from runner.errors import UserError

if TYPE_CHECKING:
    from runner.data.dataset import Dataset
    from runner.data.text.vocabulary import Vocabulary


class DataSource(abc.ABC):
    """Data: declared for free, read and tokenised by `load`."""

    @abc.abstractmethod
    def check(self) -> None:
        """Cheap checks, made before any device work.

        Raises:
          UserError: a file is missing.
        """

    @abc.abstractmethod
    def load(self, *, cache: str = "") -> "Dataset":
        """The rows; work worth keeping is kept in the directory `cache`.

        Raises:
          UserError: the data is not what it should be.
        """


@dataclasses.dataclass(frozen=True)
class TokenizedText(DataSource):
    """Documents, tokenised and packed into rows of `sequence_length` positions.

    Training and held-out data share one `tokenizer` node, so that an override reaches
    both.
    """

    documents: Documents
    tokenizer: TokenizerSource
    sequence_length: int = 256

    def __post_init__(self) -> None:
        require_length(self.sequence_length)

    def check(self) -> None:
        self.documents.check()
        self.tokenizer.check()

    def load(self, *, cache: str = "") -> "Dataset":
        from runner.data.text import tokens
        from runner.data.text.packed_text import pack

        vocabulary = self.tokenizer.load(cache=cache)
        made_of = digest(self.documents)
        name = f"text-1-{made_of.hexdigest()}-{vocabulary.definition_digest}.tokens"
        kept = tokens.fetch(
            caching.directory(cache) / "tokens" / name,
            self._encoded(vocabulary, made_of),
            vocab_size=vocabulary.size,
        )
        return pack(
            kept,
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            documents=made_of.hexdigest(),
            read=lambda: (document.text for document in self.documents),
            description=self.documents.describe(),
        )

    def _encoded(
        self, vocabulary: "Vocabulary", made_of: Digest
    ) -> Iterator[np.ndarray]:
        """Ids of each document, read a second time and found the same."""
        again = Digest()

        def texts() -> Iterator[str]:
            for document in self.documents:
                again.update(document)
                yield document.text

        yield from vocabulary.encode_all(texts())
        if again.hexdigest() != made_of.hexdigest():
            raise UserError("the documents changed while they were read; start again")


@dataclasses.dataclass(frozen=True)
class Part(DataSource):
    """`num_rows` rows of other data, spread evenly over all of it.

    To record a teacher on as many rows as a student is to see, and no more.
    """

    data: DataSource
    num_rows: int

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise UserError(f"num_rows must be at least 1, got {self.num_rows}")

    def check(self) -> None:
        self.data.check()

    def load(self, *, cache: str = "") -> "Dataset":
        return self.data.load(cache=cache).part(self.num_rows)


def require_length(sequence_length: int) -> None:
    """Refuse rows without positions.

    Raises:
      UserError: with the length.
    """
    if sequence_length < 1:
        raise UserError(f"sequence_length must be at least 1, got {sequence_length}")
