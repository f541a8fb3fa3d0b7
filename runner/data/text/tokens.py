"""Token arrays on disk: the ids of all documents in one memory-mapped file."""

import array
import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from runner.data import cache as caching
from runner.data.documents.parts import Encoded, Part
from runner.data.progress import Progress
from runner.errors import UserError


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


def fetch(path: Path, make: Encoded, *, vocab_size: int) -> Tokens:
    """Return the tokens in the file `path`; write it first if absent.

    The file holds ids (little-endian, two bytes when the vocabulary allows), offsets,
    bytes of each document, and the number of documents (all int64).

    Args:
      path: The cached file.
      make: Ids of each document and the bytes of its text, consumed only when the file
        is absent. Documents without ids are left out, with their bytes.
      vocab_size: Number of ids.
    """
    dtype = _dtype(vocab_size)
    return _tokens(caching.fetch(path, lambda: _chunks(make, dtype)), dtype)


def fetch_in_parts(
    path: Path, parts: Iterable[Part], *, vocab_size: int, total: int
) -> Tokens:
    """Return the tokens in the file `path`, of parts that outlast a killed process.

    Each part is a file of its own until all are there, so that a later run encodes only
    those that are missing. Of processes that want the same file at once one encodes.

    Args:
      path: The cached file.
      parts: In order, consumed only when the file is absent.
      vocab_size: Number of ids.
      total: Bytes of text in all parts, for the line on the terminal.
    """
    dtype = _dtype(vocab_size)
    folder = path.with_name(path.name + ".parts")

    def chunks() -> Iterator[bytes | memoryview]:
        paths = []
        with contextlib.closing(Progress("tokenising", total)) as progress:
            for part in parts:
                paths.append(folder / f"{part.digest}.tokens")
                before = paths[-1].exists()
                fetch(paths[-1], _lazily(part.encode), vocab_size=vocab_size)
                progress.advance(part.num_bytes, before=before)
            yield from _joined(_read(one, dtype) for one in paths)

    payload = caching.read(path)
    if payload is None:
        # Not in a folder that the other process removes when it is done.
        lock = path.parent.parent / "locks" / path.name
        with caching.locked(lock, doing="which tokenises the same texts"):
            try:
                payload = caching.fetch(path, chunks)
            except UserError:  # of other documents than those that were asked for
                shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)
    return _tokens(payload, dtype)


def texts(tokens: Tokens, decode: Callable[[np.ndarray], str]) -> Iterator[str]:
    """Yield the text of each document."""
    for start, stop in zip(tokens.offsets, tokens.offsets[1:], strict=False):
        yield decode(tokens.ids[start:stop])


def _read(path: Path, dtype: np.dtype) -> Tokens:
    payload = caching.read(path)
    if payload is None:
        raise UserError(f"the cache file {path} was damaged while it was used")
    return _tokens(payload, dtype)


def _lazily(encode: Callable[[], Encoded]) -> Iterator[tuple[np.ndarray, int]]:
    yield from encode()


def _dtype(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def _tokens(payload: memoryview, dtype: np.dtype) -> Tokens:
    documents = int(np.frombuffer(payload[-8:], "<i8")[0])
    at = len(payload) - 8 * (2 * documents + 2)
    numbers = np.frombuffer(payload, "<i8", count=2 * documents + 1, offset=at)
    offsets, document_bytes = numbers[: documents + 1], numbers[documents + 1 :]
    ids = np.frombuffer(payload, dtype, count=int(offsets[-1]))
    return Tokens(ids=ids, offsets=offsets, document_bytes=document_bytes)


def _chunks(documents: Encoded, dtype: np.dtype) -> Iterator[bytes]:
    # Eight bytes a document each, where a list would take some forty.
    offsets, document_bytes = array.array("q", [0]), array.array("q")
    for ids, num_bytes in documents:
        if len(ids):
            offsets.append(offsets[-1] + len(ids))
            document_bytes.append(num_bytes)
            yield ids.astype(dtype).tobytes()
    yield from _numbers(offsets, document_bytes)


def _joined(parts: Iterable[Tokens]) -> Iterator[bytes | memoryview]:
    """Yield what `_chunks` does of the documents of all parts."""
    offsets, document_bytes = array.array("q", [0]), array.array("q")
    for part in parts:
        yield part.ids.data
        offsets.frombytes((part.offsets[1:] + offsets[-1]).tobytes())
        document_bytes.frombytes(part.document_bytes.tobytes())
    yield from _numbers(offsets, document_bytes)


def _numbers(offsets: array.array, document_bytes: array.array) -> Iterator[bytes]:
    for numbers in (offsets, document_bytes, [len(document_bytes)]):
        yield np.array(numbers, "<i8").tobytes()
