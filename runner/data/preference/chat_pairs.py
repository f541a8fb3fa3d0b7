"""Preference pairs of conversations, written by a chat template."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from runner.data import cache as caching
from runner.data.chat import conversation
from runner.data.chat.conversation import Conversation
from runner.data.chat.encoding import Encoder
from runner.data.chat.templated import TemplatedData
from runner.data.documents.document import Digest, Document
from runner.data.documents.parts import in_parts
from runner.data.preference.chat_pair_rows import ChatPairRows
from runner.data.preference.sources import require_halves
from runner.data.text import tokens
from runner.errors import UserError

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
        vocabulary = self.tokenizer.load(cache=cache)
        template = self.compiled_template(vocabulary)
        digest = Digest()
        for document, _ in self._pairs():
            digest.update(document)
        if not digest.documents:
            raise UserError("the data holds no pairs at all")
        source = f"{digest.hexdigest()}-{template.digest}"
        longest = self.sequence_length // 2 + 1
        name = f"pairs-1-{source}-{vocabulary.definition_digest}-{longest}.tokens"
        encoder = Encoder(template, vocabulary, longest=longest)
        ids = tokens.fetch_in_parts(
            caching.directory(cache) / "tokens" / name,
            in_parts(
                self._pairs(),
                documents=lambda both: [both[0]],
                encode=functools.partial(_encode, encoder, longest),
                expected=digest,
                things="pairs",
            ),
            vocab_size=2 * vocabulary.size,
            total=digest.bytes,
        )
        if not len(ids.ids):
            raise UserError(
                f"none of {digest.documents:,} pairs fits into "
                f"sequence_length={self.sequence_length}, half of it for either reply"
            )
        return ChatPairRows(
            tokens=ids,
            vocabulary=self.with_template(vocabulary),
            sequence_length=self.sequence_length,
            pairs=digest.documents,
            source=source,
            description={**self.records.describe(), "template": template.digest},
        )

    def _pairs(self) -> Iterator[tuple[Document, Pair]]:
        """Yield the pairs, each with what it is known by."""
        for record in self.records.records(conversation.PAIR_COLUMNS):
            chosen, rejected, asked = conversation.read_pair(record)
            content = f"{chosen.content()}\n{rejected.content()}"
            yield Document(record.name, content), (chosen, rejected, asked)


def _encode(
    encoder: Encoder, longest: int, pairs: Sequence[tuple[Document, Pair]]
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield `2 · id + learned`, and the messages left out, of both of each pair."""
    sides = encoder.encode([side for _, pair in pairs for side in pair[:2]])
    for number, (_, pair) in enumerate(pairs):
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
