"""Conversations to ids, and to which of them the assistant writes."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from runner.data.chat import replies
from runner.data.chat.conversation import Conversation
from runner.data.chat.template import ChatTemplate, Refused
from runner.data.text.vocabulary import Vocabulary, special_tokens
from runner.errors import UserError

_BATCH = 256  # conversations handed to the library at once


class Encoder:
    """Encodes conversations, and shortens those that are too long by whole turns."""

    def __init__(
        self, template: ChatTemplate, vocabulary: Vocabulary, *, longest: int
    ) -> None:
        """Make an encoder.

        Args:
          template: Writes the text, its beginning and end included.
          vocabulary: Names of special tokens in the text are those tokens.
          longest: Most ids of a conversation.
        """
        self._template, self._longest = template, longest
        self._tokenizer = vocabulary.tokenizer
        self._ends = replies.ends(special_tokens(vocabulary.tokenizer))

    def encode_all(
        self, conversations: Iterable[Conversation]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Yield ids, whether each is learned, and the number of messages left out.

        A conversation that is too long keeps its first messages, up to the last learned
        reply that fits. Ids are empty where none does, or where there is none.

        Raises:
          UserError: The template refuses a conversation.
        """
        for batch in _batched(conversations):
            for conversation, encoded in zip(batch, self.encode(batch), strict=True):
                yield self._fitted(conversation, *encoded)

    def _fitted(
        self, conversation: Conversation, ids: np.ndarray, learned: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int]:
        shorter = conversation
        while len(ids) > self._longest:
            earlier = sorted(shorter.learned)[:-1]
            shorter = shorter.first(earlier[-1] + 1 if earlier else 0)
            ((ids, learned),) = self.encode([shorter])
        return ids, learned, len(conversation.messages) - len(shorter.messages)

    def encode(
        self, conversations: Sequence[Conversation]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return ids, and whether each is learned, however long a conversation is.

        Raises:
          UserError: The template refuses one.
        """
        written = [self._write(conversation) for conversation in conversations]
        self._tokenizer.encode_special_tokens = False
        encodings = self._tokenizer.encode_batch(
            [text for text, _ in written], add_special_tokens=False
        )
        self._tokenizer.encode_special_tokens = True
        return [
            (np.array(encoding.ids, np.uint32), _inside(encoding, spans))
            for encoding, (_, spans) in zip(encodings, written, strict=True)
        ]

    def _write(self, conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
        """Return the text, and where its learned replies lie; "" without any."""
        if not conversation.learned:
            return "", []
        try:
            rendering = self._template.render(
                conversation.messages, tools=conversation.tools
            )
            spans = replies.spans(self._template, conversation, rendering, self._ends)
        except Refused as error:
            raise UserError(
                f"{conversation.place}: the chat template: {error}"
            ) from None
        return rendering.text, spans


def _inside(encoding: Any, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return whether each token has a character within one of the spans, bool."""
    begins, ends = np.array(encoding.offsets, np.int64).reshape(-1, 2).T
    inside = np.zeros(len(begins), bool)
    for start, stop in spans:
        inside |= (begins < stop) & (ends > start)
    return inside


def _batched(conversations: Iterable[Conversation]) -> Iterator[list[Conversation]]:
    iterator = iter(conversations)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch
