"""Vocabularies: the bytes that each id stands for, and text to ids and back."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.data.labels import Labels
from runner.errors import UserError

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import AddedToken, Tokenizer

_BATCH = 256  # documents handed to the library at once; it spreads them over threads


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary(Labels):
    """Ids of a tokenizer, `0 .. size-1`.

    Attributes:
      tokenizer: Of the `tokenizers` library.
      pieces: Bytes of text of each id; special tokens and unused ids have none.
      special: Ids that stand for no text.
      end: Id that ends a document.
    """

    tokenizer: "Tokenizer"
    pieces: Sequence[bytes]
    special: frozenset[int]
    end: int

    @property
    def size(self) -> int:
        """Number of ids; logits have this many columns."""
        return len(self.pieces)

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
        return {"tokenizer.json": self.tokenizer.to_str()}

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text, uint32; names of special tokens are plain text."""
        return next(self.encode_all([text]))

    def encode_all(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Yield the ids of each text, in order."""
        texts = iter(texts)
        while batch := [text for _, text in zip(range(_BATCH), texts, strict=False)]:
            for encoding in self.tokenizer.encode_batch_fast(
                batch, add_special_tokens=False
            ):
                yield np.array(encoding.ids, np.uint32)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of some ids, special tokens left out."""
        return self.tokenizer.decode(np.asarray(ids).tolist())

    def text_bytes(self, ids: np.ndarray) -> int:
        """Return the UTF-8 bytes of the text of some ids, a prefix space left out."""
        text = self.decode(ids)
        if "\ufffd" in text:  # bytes that are no text, which decoding replaces
            return int(self.token_bytes[ids].sum(dtype=np.int64))
        return len(text.encode())


def vocabulary(tokenizer: "Tokenizer", *, end: int) -> Vocabulary:
    """Return the vocabulary of a byte-level or byte-fallback tokenizer.

    The tokenizer is set to neither pad nor truncate, and to read the names of special
    tokens in a text as text: a document that quotes `<|endoftext|>` does not end there.

    Args:
      tokenizer: Of the `tokenizers` library; changed in place.
      end: Id that ends a document.

    Raises:
      UserError: The bytes of its tokens are not known (WordPiece, word level).
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    added = tokenizer.get_added_tokens_decoder()
    piece_of, added_piece = _piece_readers(json.loads(tokenizer.to_str()))
    pieces = [b""] * (1 + max(tokenizer.get_vocab(with_added_tokens=True).values()))
    for token, index in tokenizer.get_vocab(with_added_tokens=False).items():
        pieces[index] = b"" if index in added else piece_of(token)
    for index, token in added.items():
        pieces[index] = b"" if token.special else added_piece(token.content)
    return Vocabulary(
        tokenizer=tokenizer,
        pieces=pieces,
        special=frozenset(index for index, token in added.items() if token.special),
        end=end,
    )


def differences(theirs: Vocabulary, ours: Vocabulary) -> str:
    """Describe the first ids whose meaning differs; "" when none does.

    Which id ends a document is not compared.
    """
    size = max(theirs.size, ours.size)
    wrong = [i for i in range(size) if _format_id(theirs, i) != _format_id(ours, i)]
    if not wrong:
        return ""
    pairs = [
        f"{i} is {_format_id(theirs, i)} there, {_format_id(ours, i)} here"
        for i in wrong[:2]
    ]
    more = f" (and {len(wrong) - 2:,} more)" if len(wrong) > 2 else ""
    sizes = f"{theirs.size:,} ids there, {ours.size:,} here; "
    sizes = sizes if theirs.size != ours.size else ""
    return f"{sizes}token {'; '.join(pairs)}{more}"


def _format_id(vocabulary: Vocabulary, index: int) -> str:
    if index >= vocabulary.size:
        return "absent"
    if index in vocabulary.special:
        return f"special {vocabulary.tokenizer.id_to_token(index)!r}"
    return repr(vocabulary.pieces[index].decode(errors="backslashreplace"))


def require_bytes(tokenizer: "Tokenizer") -> None:
    """Refuse a tokenizer whose tokens stand for unknown bytes.

    Raises:
      UserError: It is of words or of WordPiece.
    """
    _piece_readers(json.loads(tokenizer.to_str()))


def special_tokens(tokenizer: "Tokenizer") -> list[str]:
    """Return the names of the special tokens."""
    added: Iterable[AddedToken] = tokenizer.get_added_tokens_decoder().values()
    return [token.content for token in added if token.special]


def _piece_readers(definition: dict[str, Any]):
    """Return the functions from written forms to bytes: of tokens, of added tokens."""
    if _uses_byte_level(definition):
        return _byte_level_piece, str.encode
    if definition["model"].get("byte_fallback"):  # "▁▁" is added, and is two spaces
        return _byte_fallback_piece, _byte_fallback_piece
    raise UserError(
        "this tokenizer is neither byte-level nor byte-fallback (its model is "
        f"{definition['model']['type']}),\nso the bytes its tokens stand for are not "
        "known; use the tokenizer.json of a Llama, Qwen, Gemma or GPT model"
    )


def _uses_byte_level(definition: dict[str, Any]) -> bool:
    step = definition.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", [step])
    return any(s.get("type") == "ByteLevel" for s in steps)


def _byte_level_piece(token: str) -> bytes:
    return bytes(_byte_of()[character] for character in token)


def _byte_fallback_piece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()  # the mark of a space


@functools.cache
def _byte_of() -> dict[str, int]:
    """Return the byte of each character of the byte-level alphabet.

    Printable latin-1 is itself; the other bytes follow from U+0100 on.

    Source: `bytes_to_unicode` of GPT-2 (openai/gpt-2, src/encoder.py).
    """
    from tokenizers import pre_tokenizers

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet |= {chr(256 + i): byte for i, byte in enumerate(others)}
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    return alphabet
