"""Bytes of text that the tokens of a tokenizer stand for."""

import functools
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner.errors import UserError

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import Tokenizer


def pieces(tokenizer: "Tokenizer") -> list[bytes]:
    """Return the bytes of each id; special tokens and unused ids have none.

    Raises:
      UserError: The bytes of its tokens are not known (WordPiece, word level).
    """
    piece_of, added_piece = _readers(json.loads(tokenizer.to_str()))
    added = tokenizer.get_added_tokens_decoder()
    result = [b""] * (1 + max(tokenizer.get_vocab(with_added_tokens=True).values()))
    for token, index in tokenizer.get_vocab(with_added_tokens=False).items():
        result[index] = b"" if index in added else piece_of(token)
    for index, token in added.items():
        result[index] = b"" if token.special else added_piece(token.content)
    return result


def _readers(definition: dict[str, Any]) -> tuple[Callable[[str], bytes], ...]:
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
    try:
        return bytes(_byte_of()[character] for character in token)
    except KeyError:
        raise UserError(f"{token!r} is no token of a byte-level tokenizer") from None


def _byte_fallback_piece(token: str) -> bytes:
    if re.fullmatch("<0x[0-9A-Fa-f]{2}>", token):
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
