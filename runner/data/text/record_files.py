"""ArrayRecord files of tokenised documents, with a manifest beside each.

A record is one document: its ids, little-endian uint32, without an end. The manifest
`FILE.json` beside `FILE` is optional; where there is one, it is checked. ArrayRecord
files carry no checksum of their own index, and one cut short can report no records and
no error.
"""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from runner import atomic_files
from runner.data.documents import array_record_file
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError
from runner.files import form

_ID = np.dtype("<u4")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Description of a file of token records.

    Attributes:
      records: Number of documents.
      tokens: Number of ids in all of them.
      vocabulary: Digest of the vocabulary that the ids belong to.
      sha256: Of the whole file.
      format: Version of the file format.
      identity: What the ids mean, whatever file the tokenizer is in; "" in older files.
    """

    records: int
    tokens: int
    vocabulary: str
    sha256: str
    format: int = 1
    identity: str = ""


def read(path: Path, vocabulary: Vocabulary) -> Iterator[np.ndarray]:
    """Yield the ids of each document of a file, uint32.

    Raises:
      UserError: The file is damaged or empty; a record does not fit `vocabulary`.
    """
    for number, record in enumerate(array_record_file.read(path)):
        yield _ids(record, vocabulary, f"{path}, record {number}")


def write_token_records(
    path: Path, documents: Iterable[np.ndarray], *, vocabulary: Vocabulary
) -> Manifest:
    """Write documents of ids as token records, then the manifest beside them.

    The file is written under another name and renamed, so that it is whole or absent.

    Args:
      path: The file to write.
      documents: Ids of each document, without an end.
      vocabulary: Of the ids.

    Raises:
      UserError: A document is empty, or does not belong to `vocabulary`.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    # Groups of records are decompressed together: small ones, for reads at random.
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    writer = ArrayRecordWriter(str(temporary), "group_size:64")
    records = tokens = 0
    try:
        try:
            for ids in documents:
                record = np.asarray(ids).astype(_ID).tobytes()
                _ids(record, vocabulary, f"document {records}")
                writer.write(record)
                records, tokens = records + 1, tokens + len(ids)
        finally:
            writer.close()
        atomic_files.sync(temporary)
        manifest = Manifest(
            records,
            tokens,
            vocabulary.digest,
            sha256_of(temporary),
            identity=vocabulary.identity,
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    atomic_files.write_atomic(
        manifest_path(path), json.dumps(dataclasses.asdict(manifest)) + "\n"
    )
    return manifest


def manifest_path(path: Path) -> Path:
    """Return the path of a file's manifest."""
    return path.with_name(path.name + ".json")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a whole file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_manifest(path: Path, sha256: str, vocabulary: Vocabulary) -> None:
    """Refuse a file that does not match the manifest beside it, if there is one.

    Args:
      path: The file.
      sha256: Of the file.
      vocabulary: That the ids must belong to.

    Raises:
      UserError: It is another file, or its ids belong to another vocabulary.
    """
    sidecar = manifest_path(path)
    try:
        manifest = form.read(Manifest, sidecar)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(
            f"{sidecar} is not a manifest of token records: {error}"
        ) from error
    if manifest.sha256 != sha256:
        raise UserError(
            f"{path} is not the file that {sidecar.name} describes:\n"
            f"sha256 is {sha256[:16]}..., expected {manifest.sha256[:16]}..."
        )
    same = manifest.vocabulary == vocabulary.digest
    if not same and manifest.identity != vocabulary.identity:
        raise UserError(
            f"{path} holds tokens of another vocabulary:\n"
            f"{manifest.vocabulary}, the tokenizer has {vocabulary.digest}"
        )


def _ids(record: bytes, vocabulary: Vocabulary, place: str) -> np.ndarray:
    """Return the ids of a record, checked; `place` names it in the error message."""
    if not record or len(record) % _ID.itemsize:
        raise UserError(
            f"{place}: {len(record)} bytes are not a document of uint32 token ids"
        )
    ids = np.frombuffer(record, _ID)
    if (largest := int(ids.max())) >= vocabulary.size:
        raise UserError(
            f"{place}: token id {largest} is outside of a vocabulary of "
            f"{vocabulary.size} tokens"
        )
    if vocabulary.end in ids:
        raise UserError(
            f"{place}: holds the end-of-document id {vocabulary.end}; "
            "a record is one document, without its end"
        )
    return ids
