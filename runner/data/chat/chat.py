"""Conversations as data: written by a chat template, learned reply by reply."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runner.data import cache as caching
from runner.data.chat import conversation
from runner.data.chat.chat_rows import ChatRows
from runner.data.chat.conversation import Conversation
from runner.data.chat.encoding import Encoder
from runner.data.chat.plain import PLAIN
from runner.data.chat.template import ChatTemplate
from runner.data.documents.document import Digest, Document
from runner.data.documents.parts import in_parts
from runner.data.documents.records import Records
from runner.data.source import DataSource, require_length
from runner.data.text import tokens
from runner.data.text.chat_files import read_template
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Chat(DataSource):
    """Conversations; the tokens that the assistant writes count, and no others.

    A record holds `messages`, or `prompt` and `completion`, or the `conversations` of
    ShareGPT; and `tools`, if the template is to name some. Conversations stand whole in
    a row. One that is too long keeps its first turns, up to the last reply that fits.

    Attributes:
      records: Such as `JsonLines`, `Parquet`, `HuggingFaceDataset`.
      tokenizer: Maps text to ids; names of special tokens are those tokens.
      sequence_length: Positions in a row.
      template: File of a Jinja template, or the name of one of the tokenizer's; "" is
        its usual one, "plain" one of plain names, for tokenizers that have none.
      variables: What the template reads beside the messages, such as
        `{"enable_thinking": False}`.
      date: What a template that writes today's date writes, so that rows are the same
        on every day.

    Raises:
      UserError: The sequence length is below 1.
    """

    records: Records
    tokenizer: TokenizerSource
    sequence_length: int = 1024
    template: str = ""
    variables: Mapping[str, Any] | None = None
    date: str = "2024-07-26"

    def __post_init__(self) -> None:
        require_length(self.sequence_length)

    def check(self) -> None:
        if not isinstance(self.records, Records):
            kind = type(self.records).__name__
            raise UserError(
                f"records are JsonLines, Parquet or HuggingFaceDataset, got {kind}"
            )
        self.records.check()
        self.tokenizer.check()
        self._source()

    def load(self, *, cache: str = "") -> ChatRows:
        vocabulary = self.tokenizer.load(cache=cache)
        template = self._template(vocabulary)

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
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            conversations=digest.documents,
            source=source,
            description={**self.records.describe(), "template": template.digest},
        )

    def _template(self, vocabulary: Vocabulary) -> ChatTemplate:
        """Compile the template that is asked for, with the names of tokens."""
        files = self.tokenizer.chat_files()
        variables = {**files.variables, **(self.variables or {})}
        if self.template == "plain":
            end = vocabulary.tokenizer.id_to_token(vocabulary.end)
            variables = {"eos_token": end, **variables}
        return ChatTemplate(
            self._source(),
            variables=variables,
            date=self.date,
            place=f"template {self.template or vocabulary.source!r}",
        )

    def _source(self) -> str:
        """Return the source of the template."""
        templates = {"plain": PLAIN, **self.tokenizer.chat_files().templates}
        name = self.template or "default"
        path = Path(name).expanduser()
        if name in templates:
            return templates[name]
        if self.template and path.is_file():
            return read_template(path)
        if self.template:
            raise UserError(f"no such chat template: {name}{nearest(name, templates)}")
        raise UserError(
            "the tokenizer has no chat template; give the file of one, template=..., "
            "or template='plain'"
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
