"""Whole numbers in few bits: a symbol with the size, and the low bits as they are.

Of a number below 4 the symbol is the number; above, there are four symbols for each
doubling, and the low bits are those below. Symbols are for an entropy code; low bits
hardly shrink, and stand one beside the other, fields of one width together.
"""

import numpy as np

MOST = 1 << 20  # numbers are below it
SYMBOLS = 76  # of numbers below MOST
_STEP = 21  # bits of a float32 below its exponent and two bits more
_SMALLEST = (127 + 2 << 2) - 4  # of 4, so shifted, less its symbol


def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return symbols uint8, widths uint8 and low bits uint32 of `x`, below `MOST`."""
    x = np.ascontiguousarray(x, np.uint32)
    size = (x.astype(np.float32).view(np.uint32) >> _STEP) - np.uint32(_SMALLEST)
    symbols = np.where(x < 4, x, size).astype(np.uint8)
    width = widths(symbols)
    return symbols, width, x & ((np.uint32(1) << width) - np.uint32(1))


def widths(symbols: np.ndarray) -> np.ndarray:
    """Return the number of low bits, uint8, that belong to each symbol."""
    return np.maximum(symbols >> 2, 1) - np.uint8(1)


def join(symbols: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return the numbers uint32; the inverse of `split`."""
    head = np.where(symbols < 4, symbols, 4 + (symbols & 3)).astype(np.uint32)
    return (head << widths(symbols)) + low


def packed(low: np.ndarray, width: np.ndarray) -> bytes:
    """Return the low bits `[n]`, narrowest first; each width begins a byte."""
    fields, at, parts = low[np.argsort(width, kind="stable")], 0, []
    for w, count in enumerate(np.bincount(width).tolist()):
        if w:
            field = fields[at : at + count, None]
            bits = (field >> np.arange(w, dtype=np.uint32)).astype(np.uint8) & 1
            parts.append(np.packbits(bits).tobytes())
        at += count
    return b"".join(parts)


def unpacked(data: bytes, width: np.ndarray) -> np.ndarray:
    """Return the low bits uint32 `[n]`; the inverse of `packed`.

    Raises:
      ValueError: There are fewer bytes.
    """
    fields, at, byte = np.zeros(len(width), np.uint32), 0, 0
    for w, count in enumerate(np.bincount(width).tolist()):
        if w and count:
            size = -(-w * count // 8)
            part = np.frombuffer(data, np.uint8, size, byte)
            bits = np.unpackbits(part, count=w * count).reshape(count, w)
            fields[at : at + count] = bits @ (1 << np.arange(w, dtype=np.uint32))
            byte += size
        at += count
    low = np.empty_like(fields)
    low[np.argsort(width, kind="stable")] = fields
    return low
