"""Tokenizers of `.gguf` files."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.data.text import gguf_byte_level, gguf_sentencepiece
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary, special_tokens, vocabulary
from runner.errors import UserError, nearest

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import Tokenizer

# By `tokenizer.ggml.model`.
_BUILDERS = {"gpt2": gguf_byte_level.build, "llama": gguf_sentencepiece.build}
_OTHERS = {"bert": "WordPiece", "t5": "Unigram", "rwkv": "RWKV", "plamo2": "PLaMo-2"}


@dataclasses.dataclass(frozen=True)
class GGUFTokenizer(TokenizerSource):
    """The byte-level or SentencePiece tokenizer of a `.gguf` file.

    Text is not normalised, as in llama.cpp, but for SentencePiece's space before it;
    `tokenizer.json` of Qwen composes accents (NFC) first.

    Attributes:
      file: A path, or `package:NAME/FILE` for a file of an installed Python package.
      end: Name of the token that ends a document; "" is the end that the file names.
    """

    file: str
    end: str = ""

    def check(self) -> None:
        self._path()

    def load(self, *, cache: str = "") -> Vocabulary:
        from models.pretrained.gguf_reader import GGUFReader  # numpy of gguf files

        path = self._path()
        try:
            reader = GGUFReader(path)
        except ValueError as error:
            raise UserError(str(error)) from error
        entries = reader.values("tokenizer.ggml.")
        tokenizer = self._build(entries)
        end = entries.get("eos_token_id")
        if self.end or end is None:
            end = tokenizer.token_to_id(self.end)
        if end is None:
            raise UserError(
                f"{self.file} has no end-of-document token {self.end!r}"
                f"{nearest(self.end, special_tokens(tokenizer))}"
            )
        return vocabulary(tokenizer, end=end)

    def _path(self):
        from models.pretrained.location import locate

        try:
            return locate(self.file)
        except ValueError as error:
            raise UserError(str(error)) from error

    def _build(self, entries: Mapping[str, Any]) -> "Tokenizer":
        """Build the tokenizer of the file's `tokenizer.ggml.` entries."""
        kind = str(entries.get("model"))
        if kind not in _BUILDERS:
            name = f"{kind!r} ({_OTHERS[kind]})" if kind in _OTHERS else repr(kind)
            raise UserError(
                f"{self.file}: tokenizer {name} is not supported, but for 'gpt2' "
                "(byte-level) and 'llama' (SentencePiece)"
            )
        return _BUILDERS[kind](self.file, entries)
