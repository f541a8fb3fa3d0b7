"""Tokenizers of `.gguf` files."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.data.text.chat_files import ChatFiles
from runner.data.text.document_ends import DocumentEnds
from runner.data.text.gguf import byte_level, sentencepiece
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary, vocabulary
from runner.errors import UserError

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import Tokenizer

# By `tokenizer.ggml.model`: the builder, and the lists that it reads.
_BUILDERS = {
    "gpt2": (byte_level.build, ("tokens", "merges")),
    "llama": (sentencepiece.build, ("tokens", "scores", "token_type")),
}
_OTHERS = {"bert": "WordPiece", "t5": "Unigram", "rwkv": "RWKV", "plamo2": "PLaMo-2"}
# Of these models and `tokenizer.ggml.pre`, llama.cpp puts a token before a text where
# the file does not say.
_BEGUN = {"llama", "llama3", "llama-v3", "llama-bpe", "tekken", "chameleon"}


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
        ends = DocumentEnds(
            begin=_numbered(entries, "bos_token_id") if _begins(entries) else (),
            end=_numbered(entries, "eos_token_id"),
        )
        loaded = vocabulary(tokenizer, source=self.file)
        stops = _numbered(entries, "eos_token_id") + _numbered(entries, "eot_token_id")
        return dataclasses.replace(
            loaded,
            ends=ends,
            chat=_chat_files(reader.values("tokenizer.")),
            stops=tuple(dict.fromkeys(stops)),
        ).with_ends(end=self.end)

    def chat_files(self) -> ChatFiles:
        from models.pretrained.gguf_reader import GGUFReader  # numpy of gguf files

        path = self._path()
        try:
            entries = GGUFReader(path).values("tokenizer.")
        except ValueError as error:
            raise UserError(str(error)) from error
        return _chat_files(entries)

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
        build, lists = _BUILDERS[kind]
        _require_whole(self.file, entries, lists)
        try:
            return build(self.file, entries)
        except UserError:
            raise
        except Exception as error:  # of tokenizers, which raises no narrower class
            reason = f"its tokenizer is damaged: {error}"
            raise UserError(f"{self.file}: {reason}") from error


def _chat_files(entries: Mapping[str, Any]) -> ChatFiles:
    """Read the templates and names of tokens of the `tokenizer.` entries of a file."""
    templates = {
        name.removeprefix("chat_template").lstrip(".") or "default": str(source)
        for name, source in entries.items()
        if name.partition(".")[0] == "chat_template"
    }
    tokens = entries.get("ggml.tokens", [])
    variables = {
        f"{name}_token": tokens[index]
        for name in ("bos", "eos", "pad")
        if (index := entries.get(f"ggml.{name}_token_id")) in range(len(tokens))
    }
    return ChatFiles(templates, variables)


def _require_whole(file: str, entries: Mapping[str, Any], lists: Sequence[str]) -> None:
    """Refuse entries that are missing, or that do not fit the number of tokens."""
    for name in lists:
        if not isinstance(entries.get(name), list):
            raise UserError(f"{file}: no list 'tokenizer.ggml.{name}'")
    size = len(entries["tokens"])
    for name in {"scores", "token_type"} & entries.keys():
        if len(entries[name]) != size:
            raise UserError(
                f"{file}: {len(entries[name]):,} entries in 'tokenizer.ggml.{name}' "
                f"of {size:,} tokens"
            )
    ids = {"bos_token_id", "eos_token_id", "eot_token_id", "unknown_token_id"}
    for name in ids & entries.keys():
        if entries[name] not in range(size):
            raise UserError(
                f"{file}: 'tokenizer.ggml.{name}' is {entries[name]} of {size:,} tokens"
            )


def _begins(entries: Mapping[str, Any]) -> bool:
    """Return True if a text begins with a token, as llama.cpp decides it.

    Source: `llama_vocab::impl::load` of llama.cpp (0.3.36 of its Python package).
    """
    usual = _BEGUN.intersection([entries.get("model"), entries.get("pre")])
    return bool(entries.get("add_bos_token", usual))


def _numbered(entries: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return (int(entries[name]),) if name in entries else ()
