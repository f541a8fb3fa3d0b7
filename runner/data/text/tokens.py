"""Token arrays on disk: the ids of all documents in one memory-mapped file."""

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
    """

    ids: np.ndarray
    offsets: np.ndarray


def fetch(path: Path, make: Iterable[np.ndarray], *, vocab_size: int) -> Tokens:
    """Return the tokens in the file `path`; write it first if absent.

    The file holds ids (little-endian, two bytes when the vocabulary allows), offsets
    (int64) and the number of documents (int64).

    Args:
      path: The cached file.
      make: Ids of each document, consumed only when the file is absent. Documents
        without ids are left out.
      vocab_size: Number of ids.
    """
    dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    payload = caching.fetch(path, lambda: _chunks(make, dtype))
    documents = int(np.frombuffer(payload[-8:], "<i8")[0])
    at = len(payload) - 8 * (documents + 2)
    offsets = np.frombuffer(payload, "<i8", count=documents + 1, offset=at)
    ids = np.frombuffer(payload, dtype, count=int(offsets[-1]))
    return Tokens(ids=ids, offsets=offsets)


def _chunks(documents: Iterable[np.ndarray], dtype: np.dtype) -> Iterator[bytes]:
    offsets = [0]
    for ids in documents:
        if len(ids):
            offsets.append(offsets[-1] + len(ids))
            yield ids.astype(dtype).tobytes()
    yield np.array([*offsets, len(offsets) - 1], "<i8").tobytes()
