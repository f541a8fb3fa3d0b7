"""Preference pairs of conversations, written by a chat template."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from runner.data.chat import conversation
from runner.data.chat.conversation import Conversation
from runner.data.chat.encoding import Encoder
from runner.data.chat.templated import TemplatedData
from runner.data.documents.document import Document
from runner.data.preference.chat_pair_rows import ChatPairRows
from runner.data.preference.sources import require_halves

Pair = tuple[Conversation, Conversation, int]
"""Chosen and rejected, and how many messages both begin with: the prompt."""

Encoded = tuple[np.ndarray, np.ndarray]
"""Ids, and whether each is learned."""


@dataclasses.dataclass(frozen=True)
class ChatPairs(TemplatedData):
    """Pairs of conversations with one prompt: chosen, then rejected, in one row.

    A record holds `prompt`, `chosen` and `rejected`, strings or lists of messages; or
    `chosen` and `rejected` alone, whose first messages are the same; and `tools`, if
    the template is to name some. The targets that the assistant writes after the prompt
    count. A pair that is too long for half a row loses the first turns of its prompt,
    whole, after what the system says; one that is still too long is left out.

    Raises:
      UserError: The sequence length is below 4, or odd.
    """

    def __post_init__(self) -> None:
        require_halves(self.sequence_length)

    def load(self, *, cache: str = "") -> ChatPairRows:
        length = self.sequence_length
        longest = length // 2 + 1
        number, fields = self.encoded(
            self._pairs,
            functools.partial(_encode, longest),
            name="pairs-1",
            longest=longest,
            things="pairs",
            wanted=f"fits into sequence_length={length}, half of it for either reply",
            cache=cache,
        )
        return ChatPairRows(pairs=number, **fields)

    def _pairs(self) -> Iterator[tuple[Document, Pair]]:
        """Yield the pairs, each with what it is known by."""
        for record in self.records.records(conversation.PAIR_COLUMNS):
            chosen, rejected, asked = conversation.read_pair(record)
            content = f"{chosen.content()}\n{rejected.content()}"
            yield Document(record.name, content), (chosen, rejected, asked)


def _encode(
    longest: int, encoder: Encoder, pairs: Sequence[Pair]
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield `2 · id + learned`, and the messages left out, of both of each pair."""
    sides = encoder.encode([side for pair in pairs for side in pair[:2]])
    for number, pair in enumerate(pairs):
        both, left_out = sides[2 * number : 2 * number + 2], 0
        if max(len(ids) for ids, _ in both) > longest:
            both, left_out = _shortened(encoder, longest, pair)
        for ids, learned in both:
            yield 2 * ids + learned, left_out


def _shortened(
    encoder: Encoder, longest: int, pair: Pair
) -> tuple[Sequence[Encoded], int]:
    """Return a pair without the first turns of its prompt, and how many messages.

    A turn is a question and all until the next one. Of a pair that does not fit with
    its last question there are no ids.
    """
    chosen, rejected, asked = pair
    roles = [message["role"] for message in chosen.messages[:asked]]
    start = next((i for i, role in enumerate(roles) if role != "system"), asked)
    for stop in range(start + 1, asked):
        if roles[stop] != "user":
            continue
        sides = [side.without(start, stop) for side in (chosen, rejected)]
        both = encoder.encode(sides)
        if max(len(ids) for ids, _ in both) <= longest:
            return both, stop - start
    nothing = (np.zeros(0, np.uint32), np.zeros(0, bool))
    return [nothing, nothing], 0
