"""A tokenizer with only those tokens that some documents use."""

import dataclasses
import json
from collections.abc import Iterator

import numpy as np

from runner.data import cache as caching
from runner.data.documents.document import Documents, digest
from runner.data.text.chat_files import ChatFiles
from runner.data.text.cut import bpe
from runner.data.text.document_ends import DocumentEnds
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Cut, Vocabulary, vocabulary
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class UsedTokens(TokenizerSource):
    """The tokens of `tokenizer` that `documents` use, numbered from 0 in their order.

    What stays besides: every byte, special and added tokens, and the parts that a used
    token is merged from. So the documents are cut into the same tokens as before, which
    is checked, and any other text into tokens that stay. A model that speaks all tokens
    starts, teaches and is measured over such data by the rows of its embedding and head
    that stay: its probabilities are those given one of these tokens.

    Attributes:
      tokenizer: to be cut; byte-level or byte-fallback BPE.
      documents: all that is to keep its tokens, held-out documents too.
    """

    tokenizer: TokenizerSource
    documents: Documents

    def check(self) -> None:
        self.tokenizer.check()
        self.documents.check()

    def load(self, *, cache: str = "") -> Vocabulary:
        whole = self.tokenizer.load(cache=cache)
        documents = digest(self.documents).hexdigest()
        name = f"used-1-{documents}-{whole.definition_digest}.json"
        payload = caching.fetch(
            caching.directory(cache) / "tokenizers" / name,
            lambda: [self._cut(whole).encode()],
        )
        return _cut_vocabulary(whole, bytes(payload).decode())

    def chat_files(self) -> ChatFiles:
        return self.tokenizer.chat_files()

    def _cut(self, whole: Vocabulary) -> str:
        """Return the content of a `tokenizer.json`, held against the documents.

        Raises:
          UserError: it is no BPE, or cuts a document otherwise.
        """
        used = np.zeros(whole.size, bool)
        for ids in whole.encode_all(self._texts()):
            used[ids] = True
        ends = whole.ends.begin + whole.ends.end
        used[list(ends)] = True
        definition = bpe.cut(
            json.loads(whole.tokenizer.to_str()),
            frozenset(np.flatnonzero(used).tolist()),
            source=whole.source,
        )
        content = json.dumps(definition, ensure_ascii=False)
        self._compare(whole, _cut_vocabulary(whole, content))
        return content

    def _compare(self, whole: Vocabulary, small: Vocabulary) -> None:
        assert small.cut is not None
        both = zip(
            self.documents,
            whole.encode_all(self._texts()),
            small.encode_all(self._texts()),
            strict=True,
        )
        for document, before, after in both:
            if not np.array_equal(before, small.cut.ids[after]):
                raise UserError(
                    f"{whole.source} cannot be cut to the tokens that are used: "
                    f"{document.name} would be cut into others"
                )

    def _texts(self) -> Iterator[str]:
        return (document.text for document in self.documents)


def _cut_vocabulary(whole: Vocabulary, content: str) -> Vocabulary:
    """Return the vocabulary of a cut `tokenizer.json`, which knows the ids it had."""
    from tokenizers import Tokenizer

    small = Tokenizer.from_str(content)
    loaded = vocabulary(small, source=f"the used tokens of {whole.source}")
    names = map(loaded.tokenizer.id_to_token, range(loaded.size))
    old = [whole.tokenizer.token_to_id(name or "") for name in names]
    new = {index: number for number, index in enumerate(old)}
    ends = DocumentEnds(
        begin=tuple(new[index] for index in whole.ends.begin),
        end=tuple(new[index] for index in whole.ends.end),
    )
    return dataclasses.replace(
        loaded,
        ends=ends,
        cut=Cut(whole=whole, ids=np.array(old, np.int64)),
        chat=whole.chat,
        stops=tuple(new[index] for index in whole.stops if index in new),
    )
