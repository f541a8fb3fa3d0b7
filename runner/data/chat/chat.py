"""Conversations as data: written by a chat template, learned reply by reply."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from runner.data import cache as caching
from runner.data.chat import conversation
from runner.data.chat.chat_rows import ChatRows
from runner.data.chat.conversation import Conversation
from runner.data.chat.encoding import Encoder
from runner.data.chat.templated import TemplatedData
from runner.data.documents.document import Digest, Document
from runner.data.documents.parts import in_parts
from runner.data.text import tokens
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chat(TemplatedData):
    """Conversations; the tokens that the assistant writes count, and no others.

    A record holds `messages`, or `prompt` and `completion`, or the `conversations` of
    ShareGPT; and `tools`, if the template is to name some. Conversations stand whole in
    a row. One that is too long keeps its first turns, up to the last reply that fits.
    """

    def load(self, *, cache: str = "") -> ChatRows:
        vocabulary = self.tokenizer.load(cache=cache)
        template = self.compiled_template(vocabulary)

        # The first reading is for the hash; a second, unless it is cached, for ids.
        digest = Digest()
        for document, _ in self._conversations():
            digest.update(document)
        source = f"{digest.hexdigest()}-{template.digest}"
        name = f"chat-1-{source}-{vocabulary.definition_digest}-{self.sequence_length}"
        longest = self.sequence_length + 1
        encoder = Encoder(template, vocabulary, longest=longest)
        ids = tokens.fetch_in_parts(
            caching.directory(cache) / "tokens" / f"{name}.tokens",
            in_parts(
                self._conversations(),
                documents=lambda pair: [pair[0]],
                encode=functools.partial(_encode, encoder),
                expected=digest,
                things="conversations",
            ),
            vocab_size=2 * vocabulary.size,
            total=digest.bytes,
        )
        if not len(ids.ids):
            raise UserError(
                f"none of {digest.documents:,} conversations has a reply that fits "
                f"into sequence_length={self.sequence_length}"
            )
        return ChatRows(
            tokens=ids,
            vocabulary=self.with_template(vocabulary),
            sequence_length=self.sequence_length,
            conversations=digest.documents,
            source=source,
            description={**self.records.describe(), "template": template.digest},
        )

    def _conversations(self) -> Iterator[tuple[Document, Conversation]]:
        """Yield the conversations, each with what it is known by."""
        for record in self.records.records(conversation.COLUMNS):
            one = conversation.read(record)
            yield Document(record.name, one.content()), one


def _encode(
    encoder: Encoder, pairs: Sequence[tuple[Document, Conversation]]
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield `2 · id + learned`, and the messages left out, of each conversation."""
    for ids, learned, left_out in encoder.encode_all(one for _, one in pairs):
        yield 2 * ids + learned, left_out
