"""Memory-mapped files, read from end to end without filling memory."""

import mmap
from collections.abc import Iterator

import numpy as np

_WINDOW = 1 << 24  # bytes; a multiple of any page


def windows(content: memoryview | np.ndarray) -> Iterator[memoryview]:
    """Yield the bytes of some content in order, in pieces.

    A piece of a mapped file leaves memory after its turn: a file larger than memory can
    be hashed, and a process is not taken for one that needs it all.
    """
    array = np.frombuffer(content, np.uint8)
    file = _mapping(array)
    start = 0 if file is None else _address(array) - _address(np.frombuffer(file, "u1"))
    for begin in range(0, len(array), _WINDOW):
        window = array[begin : begin + _WINDOW]
        yield window.data
        if file is not None and hasattr(mmap, "MADV_DONTNEED"):
            # Whole pages from the first to the last; they are read again if needed.
            first = (start + begin) // mmap.PAGESIZE * mmap.PAGESIZE
            length = min(start + begin + len(window), len(file)) - first
            file.madvise(mmap.MADV_DONTNEED, first, length)


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    """Return the mapped file that an array is a view of."""
    base = array.base
    while base is not None:
        if isinstance(base, mmap.mmap):
            return base
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return None


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
