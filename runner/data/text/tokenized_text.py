"""Text as data: documents, tokenised and packed."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from runner.data import cache as caching
from runner.data.documents.document import Document, Documents, digest
from runner.data.documents.parts import in_parts
from runner.data.source import DataSource, require_length
from runner.data.text import tokens
from runner.data.text.packed_text import (
    PackedText,
    PackingName,
    pack,
    require_packing,
)
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError, nearest

_SPECIAL_TOKENS = ("text", "tokens")


@dataclasses.dataclass(frozen=True)
class TokenizedText(DataSource):
    """Documents, tokenised and packed into rows of `sequence_length` positions.

    Training and held-out data share one `tokenizer` node, so that an override reaches
    both.

    Attributes:
      documents: Texts, in a fixed order.
      tokenizer: Maps text to ids.
      sequence_length: Positions in a row.
      begin: Name of the token that the first id of a document is predicted from; "" is
        what the tokenizer puts before a text, or `end` where that is nothing.
      end: Name of the token that ends a document; "" is what the tokenizer says.
      special_tokens: What the name of a special token in a text is. As "text" it is
        spelled out, so that no document ends or changes speaker by quoting it. As
        "tokens" it is that one token, as chat templates mean it; the beginning and the
        end that a text writes itself are not doubled then.
      packing: "cut": documents are laid end to end and cut into full rows. "whole":
        they lie whole in rows, by best fit; only those longer than a row are cut.

    Raises:
      UserError: The sequence length is below 1; there is no such `special_tokens`
        or `packing`.
    """

    documents: Documents
    tokenizer: TokenizerSource
    sequence_length: int = 256
    begin: str = ""
    end: str = ""
    special_tokens: Literal["text", "tokens"] = "text"
    packing: PackingName = "cut"

    def __post_init__(self) -> None:
        require_length(self.sequence_length)
        require_packing(self.packing)
        if self.special_tokens not in _SPECIAL_TOKENS:
            raise UserError(
                f"special_tokens is {self.special_tokens!r}"
                f"{nearest(self.special_tokens, _SPECIAL_TOKENS)}"
            )

    def check(self) -> None:
        self.documents.check()
        self.tokenizer.check()

    def load(self, *, cache: str = "") -> PackedText:
        vocabulary = self.tokenizer.load(cache=cache)
        vocabulary = vocabulary.with_ends(begin=self.begin, end=self.end)
        documents_digest = digest(self.documents)
        name = f"text-2-{documents_digest.hexdigest()}-{vocabulary.definition_digest}"
        if self.special_tokens == "tokens":
            name += f"-special-{vocabulary.begin}-{vocabulary.end}"
        ids = tokens.fetch_in_parts(
            caching.directory(cache) / "tokens" / f"{name}.tokens",
            in_parts(
                self.documents,
                documents=lambda document: [document],
                encode=functools.partial(self._encode, vocabulary),
                expected=documents_digest,
            ),
            vocab_size=vocabulary.size,
            total=documents_digest.bytes,
        )
        return pack(
            ids,
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            documents=documents_digest.hexdigest(),
            read=lambda: (document.text for document in self.documents),
            description={
                **self.documents.describe(),
                "special_tokens": self.special_tokens,
            },
            packing=self.packing,
        )

    def _encode(
        self, vocabulary: Vocabulary, documents: Sequence[Document]
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yield ids and bytes of each document."""
        as_text = self.special_tokens == "text"
        texts = (document.text for document in documents)
        encoded = vocabulary.encode_all(texts, special_as_text=as_text)
        for document, ids in zip(documents, encoded, strict=True):
            bare = ids if as_text else _without_ends(ids, vocabulary)
            yield bare, len(document.text.encode())


def _without_ends(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return the ids less a beginning and an end that the text writes itself."""
    if len(ids) and ids[0] == vocabulary.begin:
        ids = ids[1:]
    return ids[:-1] if len(ids) and ids[-1] == vocabulary.end else ids
