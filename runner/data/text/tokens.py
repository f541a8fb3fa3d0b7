"""Token arrays on disk: the ids of all documents in one memory-mapped file."""

import array
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from runner.data import cache as caching


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """Ids of some documents.

    Attributes:
      ids: `[ids]` uint16 or uint32.
      offsets: `[documents + 1]` int64, where each document begins in `ids`.
      document_bytes: `[documents]` int64, UTF-8 bytes of each document's text.
    """

    ids: np.ndarray
    offsets: np.ndarray
    document_bytes: np.ndarray


def fetch(
    path: Path, make: Iterable[tuple[np.ndarray, int]], *, vocab_size: int
) -> Tokens:
    """Return the tokens in the file `path`; write it first if absent.

    The file holds ids (little-endian, two bytes when the vocabulary allows), offsets,
    bytes of each document, and the number of documents (all int64).

    Args:
      path: The cached file.
      make: Ids of each document and the bytes of its text, consumed only when the file
        is absent. Documents without ids are left out, with their bytes.
      vocab_size: Number of ids.
    """
    dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    payload = caching.fetch(path, lambda: _chunks(make, dtype))
    documents = int(np.frombuffer(payload[-8:], "<i8")[0])
    at = len(payload) - 8 * (2 * documents + 2)
    numbers = np.frombuffer(payload, "<i8", count=2 * documents + 1, offset=at)
    offsets, document_bytes = numbers[: documents + 1], numbers[documents + 1 :]
    ids = np.frombuffer(payload, dtype, count=int(offsets[-1]))
    return Tokens(ids=ids, offsets=offsets, document_bytes=document_bytes)


def _chunks(
    documents: Iterable[tuple[np.ndarray, int]], dtype: np.dtype
) -> Iterator[bytes]:
    # Eight bytes a document each, where a list would take some forty.
    offsets, document_bytes = array.array("q", [0]), array.array("q")
    for ids, num_bytes in documents:
        if len(ids):
            offsets.append(offsets[-1] + len(ids))
            document_bytes.append(num_bytes)
            yield ids.astype(dtype).tobytes()
    for numbers in (offsets, document_bytes, [len(document_bytes)]):
        yield np.array(numbers, "<i8").tobytes()
