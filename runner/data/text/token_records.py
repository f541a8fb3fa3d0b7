"""Data from files of tokenised documents."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from runner.data import cache as caching
from runner.data.paths import resolve
from runner.data.source import DataSource, require_length
from runner.data.text import record_files, tokens
from runner.data.text.packed_text import PackedText, pack
from runner.data.text.tokenizer import TokenizerSource


@dataclasses.dataclass(frozen=True)
class TokenRecords(DataSource):
    """Documents from ArrayRecord files of tokens, packed like text.

    Attributes:
      files: Paths, directories and globs, as in `TextFiles`.
      tokenizer: Of the ids.
      sequence_length: Positions in a row.
      begin: Name of the token that begins a document; "" is what the tokenizer says.
      end: Name of the token that ends a document; "" is what the tokenizer says.

    Raises:
      UserError: The sequence length is below 1.
    """

    files: Sequence[str]
    tokenizer: TokenizerSource
    sequence_length: int = 256
    begin: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        require_length(self.sequence_length)

    def check(self) -> None:
        _files(self.files)
        self.tokenizer.check()

    def load(self, *, cache: str = "") -> PackedText:
        vocabulary = self.tokenizer.load(cache=cache)
        vocabulary = vocabulary.with_ends(begin=self.begin, end=self.end)
        files = _files(self.files)

        # Names and contents, not paths or times, are what the data is.
        hashed = hashlib.blake2b(b"retort token records 1", digest_size=16)
        for name, path in files:
            sha256 = record_files.sha256_of(path)
            record_files.check_manifest(path, sha256, vocabulary)
            hashed.update(f" {name} {sha256}".encode())
        name = f"records-2-{hashed.hexdigest()}-{vocabulary.digest}.tokens"
        documents = tokens.fetch(
            caching.directory(cache) / "tokens" / name,
            (
                (ids, vocabulary.text_bytes(ids))
                for _, path in files
                for ids in record_files.read(path, vocabulary)
            ),
            vocab_size=vocabulary.size,
        )
        return pack(
            documents,
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            documents=hashed.hexdigest(),
            read=functools.partial(tokens.texts, documents, vocabulary.decode),
            description={},
        )


def _files(files: Sequence[str]) -> list[tuple[str, Path]]:
    """Return what `resolve` does, less the manifests."""
    named = resolve(files)
    sidecars = {record_files.manifest_path(path) for _, path in named}
    return [(name, path) for name, path in named if path not in sidecars]
