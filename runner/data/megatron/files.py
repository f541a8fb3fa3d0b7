"""Megatron's files of token ids: `NAME.bin`, the ids, and `NAME.idx`, the index.

The index is a header (`MMIDIDX`, version, dtype, numbers of sequences and of document
ends) and arrays: the length of each sequence, int32; the byte where it begins in
`NAME.bin`, int64; the sequence at which each document begins, int64, and the number of
all; in data of several modes one byte a sequence, which is not read.

Source: `megatron/core/datasets/indexed_dataset.py` of megatron-core 0.16.1.
"""

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from runner.errors import UserError

_HEADER = struct.Struct("<9sQBQQ")
_MAGIC = b"MMIDIDX\x00\x00"
_INTEGERS = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """Places of the documents in a `.bin` file.

    Attributes:
      dtype: Of the ids.
      begins: `[documents + 1]` int64, place among all ids where each document begins.
    """

    dtype: np.dtype
    begins: np.ndarray


def paths_of(prefix: Path) -> tuple[Path, Path]:
    """Return the paths of index and ids, of a prefix or of either file."""
    if prefix.suffix in (".idx", ".bin"):
        prefix = prefix.with_suffix("")
    name = prefix.name
    return prefix.with_name(f"{name}.idx"), prefix.with_name(f"{name}.bin")


def read(index_path: Path, ids_path: Path) -> Iterator[np.ndarray]:
    """Yield the ids of each document, as they are stored.

    Raises:
      UserError: A file is missing or damaged, or the two do not belong together.
    """
    index = read_index(index_path, ids_path)
    with ids_path.open("rb") as file:
        for count in np.diff(index.begins).tolist():
            yield np.fromfile(file, index.dtype, count)


def read_index(index_path: Path, ids_path: Path) -> Index:
    """Return the index, checked against the size of the ids.

    Raises:
      UserError: A file is missing or damaged, or the two do not belong together.
    """
    try:
        content, size = index_path.read_bytes(), ids_path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    if len(content) < _HEADER.size or not content.startswith(_MAGIC):
        raise UserError(f"{index_path} is no index of Megatron's: it has no header")
    _, version, code, sequences, documents = _HEADER.unpack_from(content)
    if version != 1 or code not in _INTEGERS:
        raise UserError(
            f"{index_path}: version {version} with ids of kind {code}; only version 1 "
            "with integers is read"
        )

    # The sizes are a stranger's: compare before anything is read by them.
    wanted = _HEADER.size + 12 * sequences + 8 * documents
    if len(content) not in (wanted, wanted + sequences) or not documents:
        raise UserError(
            f"{index_path} is damaged or cut short: {len(content):,} bytes for "
            f"{sequences:,} sequences of {documents - 1:,} documents"
        )
    at = _HEADER.size
    lengths = np.frombuffer(content, "<i4", sequences, at).astype(np.int64)
    pointers = np.frombuffer(content, "<i8", sequences, at + 4 * sequences)
    firsts = np.frombuffer(content, "<i8", documents, at + 12 * sequences)

    dtype = np.dtype(_INTEGERS[code])
    places = np.concatenate([[0], np.cumsum(lengths)])
    if lengths.min(initial=0) < 0 or not np.array_equal(
        pointers, places[:-1] * dtype.itemsize
    ):
        raise UserError(f"{index_path} is damaged: its sequences do not join")
    if firsts[0] or firsts[-1] != sequences or np.any(np.diff(firsts) < 0):
        raise UserError(f"{index_path} is damaged: its documents are not in order")
    if size != places[-1] * dtype.itemsize:
        raise UserError(
            f"{ids_path} is cut short, or not of {index_path.name}: {size:,} bytes, "
            f"expected {places[-1] * dtype.itemsize:,}"
        )
    return Index(dtype=dtype, begins=places[firsts])
