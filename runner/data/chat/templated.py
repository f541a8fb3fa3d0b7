"""Base of data that a tokenizer's chat template writes."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runner.data import cache as caching
from runner.data.chat.encoding import Encoder
from runner.data.chat.plain import PLAIN
from runner.data.chat.template import ChatTemplate
from runner.data.documents.document import Digest, Document
from runner.data.documents.parts import Encoded, in_parts
from runner.data.documents.records import Records
from runner.data.source import DataSource, require_length
from runner.data.text import tokens
from runner.data.text.chat_files import ChatFiles, read_template
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError, nearest

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class TemplatedData(DataSource, abc.ABC):
    """Messages of records as text, by a template.

    Attributes:
      records: Such as `JsonLines`, `Parquet`, `HuggingFaceDataset`, `ArrayRecords`.
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
                "records are JsonLines, Parquet, HuggingFaceDataset or ArrayRecords, "
                f"got {kind}"
            )
        self.records.check()
        self.tokenizer.check()
        self._source()

    def encoded(
        self,
        read: Callable[[], Iterable[tuple[Document, T]]],
        encode: Callable[[Encoder, Sequence[T]], Encoded],
        *,
        name: str,
        longest: int,
        things: str,
        wanted: str,
        cache: str,
    ) -> tuple[int, dict[str, Any]]:
        """Return how many records there are, and the fields of their rows.

        Args:
          read: Yields each record's content, with what it is known by.
          encode: Yields `2 · id + learned`, and the messages left out.
          name: Of the file in the cache, before its digests.
          longest: Ids of a conversation in a row.
          things: Plural of what a record holds, for messages.
          wanted: What none of them does where no id is left, as "fits into 8".
          cache: Directory of the cache.

        Raises:
          UserError: There are no records, or none fits.
        """
        vocabulary = self.tokenizer.load(cache=cache)
        template = self._compiled(vocabulary)
        # The first reading is for the hash; a second, unless it is cached, for ids.
        digest = Digest()
        for document, _ in read():
            digest.update(document)
        if not digest.documents:
            raise UserError(f"the data holds no {things} at all")
        source = f"{digest.hexdigest()}-{template.digest}"
        encoder = Encoder(template, vocabulary, longest=longest)
        file = f"{name}-{source}-{vocabulary.definition_digest}-{longest}.tokens"
        ids = tokens.fetch_in_parts(
            caching.directory(cache) / "tokens" / file,
            in_parts(
                read(),
                documents=lambda pair: [pair[0]],
                encode=functools.partial(_contents, functools.partial(encode, encoder)),
                expected=digest,
                things=things,
            ),
            vocab_size=2 * vocabulary.size,
            total=digest.bytes,
        )
        if not len(ids.ids):
            raise UserError(f"none of {digest.documents:,} {things} {wanted}")
        return digest.documents, {
            "tokens": ids,
            "vocabulary": dataclasses.replace(
                vocabulary, chat=self._chat_files(vocabulary)
            ),
            "sequence_length": self.sequence_length,
            "source": source,
            "description": {**self.records.describe(), "template": template.digest},
        }

    def _compiled(self, vocabulary: Vocabulary) -> ChatTemplate:
        """Compile the template that is asked for, with the names of tokens."""
        files = self._chat_files(vocabulary)
        return ChatTemplate(
            files.templates["default"],
            variables={**files.variables, **(self.variables or {})},
            date=self.date,
            place=f"template {self.template or vocabulary.source!r}",
        )

    def _chat_files(self, vocabulary: Vocabulary) -> ChatFiles:
        """Return the template that is asked for, and the names of tokens."""
        variables = self.tokenizer.chat_files().variables
        if self.template == "plain":
            end = vocabulary.tokenizer.id_to_token(vocabulary.end)
            variables = {"eos_token": end, **variables}
        return ChatFiles({"default": self._source()}, variables)

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


def _contents(
    encode: Callable[[Sequence[T]], Encoded], pairs: Sequence[tuple[Document, T]]
) -> Encoded:
    return encode([content for _, content in pairs])
