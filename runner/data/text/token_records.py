"""Documents that are tokens already."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data import cache as caching
from runner.data.paths import resolve
from runner.data.source import DataSource, require_length
from runner.data.text import record_files
from runner.data.text.tokenizer import TokenizerSource

if TYPE_CHECKING:
    from runner.data.dataset import Dataset
    from runner.data.text.tokens import Tokens
    from runner.data.text.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class TokenRecords(DataSource):
    """Documents from ArrayRecord files of tokens, packed like text.

    files:     paths, directories and globs, as in `TextFiles`.
    tokenizer: whose ids these are; it decodes them and knows their bytes.
    """

    files: Sequence[str]
    tokenizer: TokenizerSource
    sequence_length: int = 256

    def __post_init__(self) -> None:
        require_length(self.sequence_length)

    def check(self) -> None:
        _files(self.files)
        self.tokenizer.check()

    def load(self, *, cache: str = "") -> "Dataset":
        from runner.data.text import tokens
        from runner.data.text.packed_text import pack

        vocabulary = self.tokenizer.load(cache=cache)
        found = _files(self.files)
        hashed = hashlib.blake2b(b"retort token records 1", digest_size=16)
        for name, path in found:
            sha256 = record_files.sha256_of(path)
            record_files.check_manifest(path, sha256, vocabulary)
            hashed.update(f" {name} {sha256}".encode())
        name = f"records-1-{hashed.hexdigest()}-{vocabulary.digest}.tokens"
        kept = tokens.fetch(
            caching.directory(cache) / "tokens" / name,
            (ids for _, path in found for ids in record_files.read(path, vocabulary)),
            vocab_size=vocabulary.size,
        )
        return pack(
            kept,
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            documents=hashed.hexdigest(),
            read=functools.partial(_texts, kept, vocabulary),
            description={},
        )


def _files(files: Sequence[str]) -> list[tuple[str, Path]]:
    """As `resolve`, less the manifests beside them."""
    named = resolve(files)
    sidecars = {record_files.manifest_path(path) for _, path in named}
    return [(name, path) for name, path in named if path not in sidecars]


def _texts(kept: "Tokens", vocabulary: "Vocabulary") -> Iterator[str]:
    for start, stop in zip(kept.offsets, kept.offsets[1:], strict=False):
        yield vocabulary.decode(kept.ids[start:stop])
