"""Conversations as data: written by a chat template, learned reply by reply."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from runner.data.chat import conversation
from runner.data.chat.chat_rows import ChatRows
from runner.data.chat.conversation import Conversation
from runner.data.chat.encoding import Encoder
from runner.data.chat.templated import TemplatedData
from runner.data.documents.document import Document


@dataclasses.dataclass(frozen=True)
class Chat(TemplatedData):
    """Conversations; the tokens that the assistant writes count, and no others.

    A record holds `messages`, or `prompt` and `completion`, or the `conversations` of
    ShareGPT; and `tools`, if the template is to name some. Conversations stand whole in
    a row. One that is too long keeps its first turns, up to the last reply that fits.
    """

    def load(self, *, cache: str = "") -> ChatRows:
        number, fields = self.encoded(
            self._conversations,
            _encode,
            name="chat-2",
            longest=self.sequence_length + 1,
            things="conversations",
            wanted=f"has a reply that fits into sequence_length={self.sequence_length}",
            cache=cache,
        )
        return ChatRows(conversations=number, **fields)

    def _conversations(self) -> Iterator[tuple[Document, Conversation]]:
        """Yield the conversations, each with what it is known by."""
        for record in self.records.records(conversation.COLUMNS):
            one = conversation.read(record)
            yield Document(record.name, one.content()), one


def _encode(
    encoder: Encoder, conversations: Sequence[Conversation]
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield `2 · id + learned`, and the messages left out, of each conversation."""
    for ids, learned, left_out in encoder.encode_all(conversations):
        yield 2 * ids + learned, left_out
