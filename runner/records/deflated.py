"""Packed records as they were first written, formats 3 and 4: read, written no more.

What is on the disk of one, in this order; d: through deflate, with Huffman codes alone:

    header            as in the record, its checksum too: that of the record unpacked
    d drops           each less the one before, as symbols (`bit_fields`), those of a
                      rank shifted so that all ranks have the same ones
    d often           the ids that stand in the record twice and more (`often`)
    d ids             as symbols of that list, or of plain numbers
    d small           as in `packing`, and then tokens, words and runs
    low bits          of the list, the drops and the ids

In format 4 drops are places in a grid, and words have one low byte (`rounding`).
"""

import zlib

import numpy as np

from runner.records import rounding
from runner.records.layout import Layout
from runner.records.record import CorruptRecord
from runner.records.row_fields import Cut, fill, header_size, runs, small_size
from runner.records.symbols import bit_fields
from runner.records.symbols import often as often_ids

_MOST_SHIFT = 96
_SIZES = 4 * often_ids.CLASSES  # bytes


def unpack(layout: Layout, stored: bytes) -> bytes:
    """Return the record. Its own checksum is not compared.

    Raises:
      CorruptRecord: The bytes are not of a record of `layout`.
    """
    try:
        return _unpacked(layout, stored)
    except (ValueError, IndexError, zlib.error) as error:
        raise CorruptRecord("it cannot be unpacked: it is damaged") from error


def _unpacked(layout: Layout, stored: bytes) -> bytes:
    length, k, header = layout.sequence_length, layout.entries, header_size(layout)
    record = bytearray(layout.dtype.itemsize)
    record[:header] = stored[:header]
    fields = np.frombuffer(record, layout.dtype)
    rest = stored[header:]
    gaps, rest = _inflated(rest, length * (k - 1))
    list_, rest = _inflated(rest, _SIZES + layout.vocab_size, exactly=False)
    symbols, rest = _inflated(rest, length * k)
    small, rest = _inflated(rest, small_size(layout))

    # What low bits are of has the widths, and they come last: past tokens, whose number
    # the small planes say, words and runs.
    step = list_[_SIZES:]
    classes = often_ids.Classes(list_[:_SIZES].view("<u4"), len(step))
    gaps = (gaps.reshape(length, k - 1) - _shifts(layout)).reshape(-1)
    widths = bit_fields.widths(step), bit_fields.widths(gaps), classes.widths[symbols]
    widths = np.concatenate(widths)
    tail = Cut(rest)
    fill(layout, fields, np.zeros((1, length, k), np.int64), small[None], [tail])
    coded = runs(layout, fields[0], tail)
    low = bit_fields.unpacked(tail.rest, widths)
    low = np.split(low, [len(step), len(step) + len(gaps)])

    # Entries, and with them the tokens that are among them.
    drops = bit_fields.join(gaps, low[1]).reshape(length, k - 1)
    drops = np.cumsum(drops, axis=-1, dtype=np.uint32)
    if layout.rounded:
        drops = rounding.values(drops, layout.format)
    fields["drops"] = drops
    listed = classes.listed(bit_fields.join(step, low[0]))
    ids = classes.ids(symbols, low[2], listed).reshape(length, k)
    fill(layout, fields, ids[None], small[None], [Cut(rest)])
    return bytes(record) + coded


def _shifts(layout: Layout) -> np.ndarray:
    """Return by how much symbols of a rank are shifted: gaps fall as 1 / rank."""
    ranks = np.arange(1, layout.entries)
    return np.minimum(np.rint(4 * np.log2(ranks)), _MOST_SHIFT).astype(np.uint8)


def _inflated(
    data: bytes, most: int, *, exactly: bool = True
) -> tuple[np.ndarray, bytes]:
    """Return the bytes of a stream, and what follows it; no more than `most`."""
    coder = zlib.decompressobj(wbits=-15)
    out = coder.decompress(data, most + 1)
    if not coder.eof or len(out) > most or (exactly and len(out) != most):
        raise ValueError("a stream has another length")
    return np.frombuffer(out, np.uint8), coder.unused_data
