"""Vocabularies: the bytes that each id stands for, and text to ids and back."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from runner.data.labels import Labels
from runner.data.read_ahead import one_ahead
from runner.data.text.chat_files import ChatFiles
from runner.data.text.document_ends import DocumentEnds
from runner.data.text.pieces import pieces
from runner.errors import UserError, nearest

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import AddedToken, Tokenizer

# Texts handed to the library at once, which spreads them over threads: enough to keep
# them busy, and not so much that its encodings (some 100 bytes a token) take memory.
_BATCH_TEXTS, _BATCH_CHARACTERS = 4096, 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """The larger vocabulary that one was cut from.

    Attributes:
      whole: The larger vocabulary.
      ids: `[size]` int64, the id there of each id that stayed.
    """

    whole: "Vocabulary"
    ids: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary(Labels):
    """Ids of a tokenizer, `0 .. size-1`.

    Attributes:
      tokenizer: Of the `tokenizers` library.
      pieces: Bytes of text of each id; special tokens and unused ids have none.
      special: Ids that stand for no text.
      ends: Ids that begin and end a document, as far as they are known.
      source: Where the tokenizer comes from, for messages.
      cut: What it was cut from; None where it is whole.
      chat: How conversations are written in it.
      stops: Ids that end what a model writes, `end` or others: the end of a turn.
    """

    tokenizer: "Tokenizer"
    pieces: Sequence[bytes]
    special: frozenset[int]
    ends: DocumentEnds
    source: str = "the tokenizer"
    cut: Cut | None = None
    chat: ChatFiles = dataclasses.field(default_factory=ChatFiles)
    stops: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of ids; logits have this many columns."""
        return len(self.pieces)

    @property
    def end(self) -> int:
        """Id that ends a document.

        Raises:
          UserError: The tokenizer names none, or more than one after another.
        """
        if not self.ends.end:
            raise UserError(
                f"{self.source} has no end-of-document token '': name one, end=..."
                f"{nearest('', special_tokens(self.tokenizer))}"
            )
        return self._one(self.ends.end, "end")

    @property
    def begin(self) -> int:
        """Id that the first id of a document is predicted from.

        `end` where the tokenizer puts nothing before a text: the end of the document
        before, as in the training of such models.

        Raises:
          UserError: The tokenizer puts several tokens there.
        """
        return self._one(self.ends.begin, "begin") if self.ends.begin else self.end

    def _one(self, ids: Sequence[int], field: str) -> int:
        if len(ids) > 1:
            names = ", ".join(str(self.tokenizer.id_to_token(i)) for i in ids)
            raise UserError(
                f"{self.source}: documents {field} with {len(ids)} tokens ({names}), "
                f"a row has room for one: name it, {field}=..."
            )
        return ids[0]

    def with_ends(self, *, begin: str = "", end: str = "") -> Self:
        """Return this vocabulary with other ends of documents.

        Args:
          begin: Name of the token that begins a document; "" leaves it.
          end: Name of the token that ends a document; "" leaves it.

        Raises:
          UserError: There is no such token.
        """
        ids = [self._id(begin, "beginning"), self._id(end, "end")]
        return dataclasses.replace(
            self, ends=DocumentEnds(ids[0] or self.ends.begin, ids[1] or self.ends.end)
        )

    def _id(self, name: str, kind: str) -> tuple[int, ...]:
        index = self.tokenizer.token_to_id(name) if name else None
        if name and index is None:
            raise UserError(
                f"{self.source} has no {kind}-of-document token {name!r}"
                f"{nearest(name, special_tokens(self.tokenizer))}"
            )
        return () if index is None else (index,)

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """`[size]` int32, the length of each piece.

        Over the ids of a document these add up to its UTF-8 length only where the
        tokenizer neither normalizes, strips nor prefixes the text.
        """
        return np.array([len(piece) for piece in self.pieces], np.int32)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the pieces in order, which of them are special, and the end."""
        hashed = hashlib.blake2b(b"retort vocabulary 1", digest_size=16)
        for index, piece in enumerate(self.pieces):
            kind = "special" if index in self.special else "piece"
            hashed.update(f" {kind} {len(piece)} ".encode() + piece)
        hashed.update(f" end {self.end}".encode())
        return hashed.hexdigest()

    def meaning(self, index: int) -> bytes | None:
        """Return the bytes of text of an id, or the name of its special token.

        None where there is no such token, and for padding (`[PAD151669]`).
        """
        meaning = self.pieces[index] if index < self.size else b""
        if not meaning:
            name = self.tokenizer.id_to_token(index) if index in self.special else None
            meaning = (name or "").encode()
        return None if meaning in (b"", f"[PAD{index}]".encode()) else meaning

    @functools.cached_property
    def identity(self) -> str:
        """Hash of what each id means and of the end, the same in every container."""
        meanings = [self.meaning(index) for index in range(self.size)]
        while meanings and meanings[-1] is None:
            meanings.pop()
        hashed = hashlib.blake2b(b"retort meanings 1", digest_size=16)
        for meaning in meanings:
            text = meaning or b""
            hashed.update(f" {len(text)} ".encode() + text)
        hashed.update(f" end {self.end}".encode())
        return hashed.hexdigest()

    @functools.cached_property
    def definition_digest(self) -> str:
        """Hash of all that decides how text is encoded, 32 hexadecimal digits."""
        import tokenizers

        content = f"{tokenizers.__version__} {self.tokenizer.to_str()}".encode()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    @property
    def summary(self) -> str:
        return f"a tokenizer of {self.size} tokens"

    @property
    def student_field(self) -> str:
        return f"vocab_size={self.size}"

    def files(self) -> Mapping[str, str]:
        files = {"tokenizer.json": self.tokenizer.to_str(), **self.chat.files()}
        if self.stops:
            ends = json.dumps({"eos_token_id": list(self.stops)}, indent=1)
            files["generation_config.json"] = ends + "\n"
        return files

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text, uint32; names of special tokens are plain text."""
        return self._encode_batch([text], special_as_text=True)[0]

    def encode_all(
        self, texts: Iterable[str], *, special_as_text: bool = True
    ) -> Iterator[np.ndarray]:
        """Yield the ids of each text, in order, without a beginning and an end.

        Args:
          texts: To encode.
          special_as_text: Whether the names of special tokens are plain text.
        """
        encode = functools.partial(self._encode_batch, special_as_text=special_as_text)
        for encoded in one_ahead(encode, _batches(texts)):
            yield from encoded

    def _encode_batch(
        self, texts: Sequence[str], *, special_as_text: bool
    ) -> list[np.ndarray]:
        self.tokenizer.encode_special_tokens = special_as_text
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of some ids, special tokens left out."""
        return self.tokenizer.decode(np.asarray(ids).tolist())

    def text_bytes(self, ids: np.ndarray) -> int:
        """Return the UTF-8 bytes of the text of some ids, a prefix space left out."""
        text = self.decode(ids)
        if "\ufffd" in text:  # bytes that are no text, which decoding replaces
            return int(self.token_bytes[ids].sum(dtype=np.int64))
        return len(text.encode())


def vocabulary(
    tokenizer: "Tokenizer", *, end: int | None = None, source: str = "the tokenizer"
) -> Vocabulary:
    """Return the vocabulary of a byte-level or byte-fallback tokenizer.

    The tokenizer is set to neither pad nor truncate, and to read the names of special
    tokens in a text as text: a document that quotes `<|endoftext|>` does not end there.

    Args:
      tokenizer: Of the `tokenizers` library; changed in place.
      end: Id that ends a document.
      source: Where it comes from, for messages.

    Raises:
      UserError: The bytes of its tokens are not known (WordPiece, word level).
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    added = tokenizer.get_added_tokens_decoder()
    return Vocabulary(
        tokenizer=tokenizer,
        pieces=pieces(tokenizer),
        special=frozenset(index for index, token in added.items() if token.special),
        ends=DocumentEnds(begin=(), end=() if end is None else (end,)),
        source=source,
    )


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in lists, each ended by its number of texts or characters."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _BATCH_TEXTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def special_tokens(tokenizer: "Tokenizer") -> list[str]:
    """Return the names of the special tokens."""
    added: Iterable[AddedToken] = tokenizer.get_added_tokens_decoder().values()
    return [token.content for token in added if token.special]
