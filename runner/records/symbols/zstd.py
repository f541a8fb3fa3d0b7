"""Bytes through zstd's Huffman codes, and some such streams one after the other."""

import threading
from collections.abc import Sequence

import numpy as np
import zstandard

# Nothing repeats in symbols of entries: hardly a look for it, in a small table.
_FAST = zstandard.ZstdCompressionParameters.from_level(
    1, source_size=1 << 14, hash_log=6, min_match=7
)
_SMALL = 16  # a level
_local = threading.local()  # a coder serves one thread


def compressed(*parts: np.ndarray) -> bytes:
    """Return one frame of some arrays of bytes, made fast."""
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(compression_params=_FAST)
    return _local.compressor.compress(b"".join(part.tobytes() for part in parts))


def compressed_once(part: np.ndarray) -> bytes:
    """Return a frame as small as can be."""
    return zstandard.ZstdCompressor(level=_SMALL).compress(part.tobytes())


def decompressed(frame: bytes | memoryview, size: int) -> np.ndarray:
    """Return the bytes uint8 `[size]` of a frame.

    Raises:
      ValueError: It is damaged, or holds another number of bytes.
    """
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    try:
        # The header is asked first: memory is taken for what it says.
        if zstandard.frame_content_size(frame) != size:
            raise ValueError("a frame has another size")
        return np.frombuffer(_local.decompressor.decompress(frame), np.uint8)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def with_sizes(frames: Sequence[bytes]) -> bytes:
    """Return the sizes of some frames, then the frames."""
    sizes = np.array([len(frame) for frame in frames], "<u4")
    return b"".join((sizes.tobytes(), *frames))


def split(
    stored: bytes | memoryview, count: int
) -> tuple[list[memoryview], memoryview]:
    """Return `count` frames, and what follows them; the inverse of `with_sizes`.

    Raises:
      ValueError: There are fewer bytes.
    """
    view, frames = memoryview(stored), []
    at = 4 * count
    for size in np.frombuffer(view, "<u4", count).tolist():
        frames.append(view[at : at + size])
        at += size
    if at > len(view):
        raise ValueError("a frame is cut short")
    return frames, view[at:]
