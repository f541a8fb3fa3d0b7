"""Text as data: documents, tokenised and packed."""

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np

from runner.data import cache as caching
from runner.data.source import DataSource, require_length
from runner.data.text import tokens
from runner.data.text.documents import Digest, Documents, digest
from runner.data.text.packed_text import PackedText, pack
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class TokenizedText(DataSource):
    """Documents, tokenised and packed into rows of `sequence_length` positions.

    Training and held-out data share one `tokenizer` node, so that an override reaches
    both.

    Attributes:
      documents: Texts, in a fixed order.
      tokenizer: Maps text to ids.
      sequence_length: Positions in a row.

    Raises:
      UserError: The sequence length is below 1.
    """

    documents: Documents
    tokenizer: TokenizerSource
    sequence_length: int = 256

    def __post_init__(self) -> None:
        require_length(self.sequence_length)

    def check(self) -> None:
        self.documents.check()
        self.tokenizer.check()

    def load(self, *, cache: str = "") -> PackedText:
        vocabulary = self.tokenizer.load(cache=cache)
        documents_digest = digest(self.documents)
        name = (
            f"text-2-{documents_digest.hexdigest()}-{vocabulary.definition_digest}"
            ".tokens"
        )
        ids = tokens.fetch(
            caching.directory(cache) / "tokens" / name,
            self._encoded(vocabulary, documents_digest),
            vocab_size=vocabulary.size,
        )
        return pack(
            ids,
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            documents=documents_digest.hexdigest(),
            read=lambda: (document.text for document in self.documents),
            description=self.documents.describe(),
        )

    def _encoded(
        self, vocabulary: Vocabulary, documents_digest: Digest
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yield ids and bytes of each document; refuse documents that have changed."""
        again = Digest()
        sizes: collections.deque[int] = collections.deque()  # of texts read ahead

        def texts() -> Iterator[str]:
            for document in self.documents:
                before = again.bytes
                again.update(document)
                sizes.append(again.bytes - before)
                yield document.text

        for ids in vocabulary.encode_all(texts()):
            yield ids, sizes.popleft()
        if again.hexdigest() != documents_digest.hexdigest():
            raise UserError("the documents changed while they were read; start again")
