"""Data from Megatron's files of token ids."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from runner.data import cache as caching
from runner.data.megatron import files as megatron_files
from runner.data.paths import resolve
from runner.data.source import DataSource, require_length
from runner.data.text import record_files, tokens
from runner.data.text.packed_text import PackedText, PackingName, pack, require_packing
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class MegatronTokens(DataSource):
    """Documents of `NAME.bin` and `NAME.idx`, which Megatron's preprocessing writes.

    An end within a document parts it; the beginning and the end that a document has
    written itself are not doubled. Documents without other ids are left out.

    Attributes:
      files: `NAME`, `NAME.idx`, directories and globs; a `.bin` belongs to its `.idx`.
      tokenizer: Of the ids. The files do not say which it was.
      sequence_length: Positions in a row.
      begin: Name of the token that begins a document; "" is what the tokenizer says.
      end: Name of the token that ends a document; "" is what the tokenizer says.
      packing: As in `TokenizedText`.

    Raises:
      UserError: The sequence length is below 1, or there is no such `packing`.
    """

    files: Sequence[str]
    tokenizer: TokenizerSource
    sequence_length: int = 256
    begin: str = ""
    end: str = ""
    packing: PackingName = "cut"

    def __post_init__(self) -> None:
        require_length(self.sequence_length)
        require_packing(self.packing)

    def check(self) -> None:
        for _, index_path, ids_path in self._files():
            megatron_files.read_index(index_path, ids_path)
        self.tokenizer.check()

    def load(self, *, cache: str = "") -> PackedText:
        vocabulary = self.tokenizer.load(cache=cache)
        vocabulary = vocabulary.with_ends(begin=self.begin, end=self.end)
        files = self._files()

        # Names and contents, not paths or times, are what the data is.
        hashed = hashlib.blake2b(b"retort megatron 1", digest_size=16)
        for name, *paths in files:
            sha256 = " ".join(map(record_files.sha256_of, paths))
            hashed.update(f" {name} {sha256}".encode())
        ends = f"{vocabulary.begin}-{vocabulary.end}"
        name = f"megatron-1-{hashed.hexdigest()}-{vocabulary.digest}-{ends}.tokens"
        documents = tokens.fetch(
            caching.directory(cache) / "tokens" / name,
            (
                (ids, vocabulary.text_bytes(ids))
                for _, index_path, ids_path in files
                for ids in _documents(index_path, ids_path, vocabulary)
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
            packing=self.packing,
        )

    def _files(self) -> list[tuple[str, Path, Path]]:
        """Return name, index and ids of each pair of files."""
        files = self.files
        if not isinstance(files, str):
            indices = [f"{file}.idx" for file in files]
            files = [
                index if Path(index).expanduser().is_file() else file
                for file, index in zip(files, indices, strict=True)
            ]
        named = resolve(files)
        pairs = {
            paths: name
            for name, path in named
            if path.suffix in (".idx", ".bin")
            and (paths := megatron_files.paths_of(path))
        }
        if not pairs:
            raise UserError(f"no NAME.idx with NAME.bin among {', '.join(self.files)}")
        return [
            (name.removesuffix(".bin").removesuffix(".idx"), *paths)
            for paths, name in pairs.items()
        ]


def _documents(
    index_path: Path, ids_path: Path, vocabulary: Vocabulary
) -> Iterator[np.ndarray]:
    """Yield the ids of each document without its ends, uint32."""
    begin, end = vocabulary.begin, vocabulary.end
    for number, stored in enumerate(megatron_files.read(index_path, ids_path)):
        if len(stored) and not 0 <= stored.min() <= stored.max() < vocabulary.size:
            wrong = stored[(stored < 0) | (stored >= vocabulary.size)][0]
            raise UserError(
                f"{ids_path}, document {number}: token id {wrong} is outside of a "
                f"vocabulary of {vocabulary.size} tokens"
            )
        for ids in np.split(stored, np.flatnonzero(stored == end) + 1):
            bare = ids[: len(ids) - 1] if len(ids) and ids[-1] == end else ids
            if begin != end and len(bare) and bare[0] == begin:
                bare = bare[1:]
            if len(bare):
                yield bare.astype(np.uint32)
