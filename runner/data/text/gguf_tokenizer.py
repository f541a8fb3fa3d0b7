"""Tokenizers of `.gguf` files."""

import dataclasses
from typing import TYPE_CHECKING, Any

from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary, special_tokens, vocabulary
from runner.errors import UserError, nearest

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import Tokenizer

# Patterns that cut a text into words before pairs are merged, by `tokenizer.ggml.pre`.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_WORDS = {
    "gpt-2": [_GPT2],
    "llama-bpe": [_LLAMA3],
    "qwen2": [_QWEN2],
    "smollm": [_DIGIT, _GPT2],
}
_WHOLE_WORDS_FIRST = {"llama-bpe"}  # a word in the vocabulary is not merged from parts

_CONTROL, _USER_DEFINED = 3, 4  # of `tokenizer.ggml.token_type`


@dataclasses.dataclass(frozen=True)
class GGUFTokenizer(TokenizerSource):
    """The byte-level tokenizer of a `.gguf` file.

    Text is not normalised, as in llama.cpp; `tokenizer.json` of Qwen composes accents
    (NFC) first.

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

    def _build(self, entries: Any) -> "Tokenizer":
        """Build the tokenizer of the file's `tokenizer.ggml.` entries."""
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models
        from tokenizers import pre_tokenizers as pre

        # Refuse what llama.cpp would read in another way.
        kind, words = entries.get("model"), str(entries.get("pre"))
        if kind != "gpt2":
            raise UserError(
                f"{self.file}: tokenizer {kind!r} is not supported, only byte-level "
                "'gpt2'; use TokenizerFile with the tokenizer.json of the model"
            )
        if words not in _WORDS:
            raise UserError(
                f"{self.file}: pre-tokenizer {words!r} is not supported"
                f"{nearest(words, _WORDS)}"
            )

        # Vocabulary and merges; then the cutting into words and the byte alphabet.
        tokens = entries["tokens"]
        merges = [tuple(merge.split(" ", 1)) for merge in entries["merges"]]
        tokenizer = Tokenizer(
            models.BPE(
                vocab={token: index for index, token in enumerate(tokens)},
                merges=merges,
                ignore_merges=words in _WHOLE_WORDS_FIRST,
            )
        )
        cuts = [pre.Split(Regex(p), behavior="isolated") for p in _WORDS[words]]
        level = pre.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre.Sequence([*cuts, level])
        tokenizer.decoder = decoders.ByteLevel()

        # Tokens that are matched in the text before it is cut.
        kinds = zip(tokens, entries.get("token_type", ()), strict=False)
        tokenizer.add_tokens(
            [
                AddedToken(token, special=kind == _CONTROL, normalized=False)
                for token, kind in kinds
                if kind in (_CONTROL, _USER_DEFINED)
            ]
        )
        return tokenizer
