"""Records of best entries in fewer bytes: the same record, bit for bit.

What is on the disk of a record of format 5 or 6, in this order; z: through zstd, whose
Huffman codes are all that such bytes gain from:

    header            as in the record, its checksum too: that of the record unpacked
    sizes             of the three frames
    z ids             symbols, `[T k]`, of the table of the shard (`code_table`)
    z gaps            symbols, `[k-1 T]`: each drop less the one before, without the
                      low bits of its rank; 255 stands for all from there on
    z small           where each token but the first is among the entries before it, the
                      high bytes of log-normalisers and log-rests, hits, known positions
    low bytes         of the ids whose symbols have one
    high bytes        of the ids that have no symbol: two in wide vocabularies
    far gaps          whole, of those that escaped
    low bits          of gaps, bit by bit, of the ranks that have it
    tokens            those that are not among the entries
    words             the low bytes of log-normalisers and log-rests
    runs              as in the record

In format 6 drops are places in a grid, and words have one low byte (`rounding`).
"""

import numpy as np

from runner.records import rounding
from runner.records.code_table import (
    DIRECT,
    ESCAPE,
    CodeTable,
    gaps_by_rank,
    stored_drops,
)
from runner.records.layout import Layout
from runner.records.record import CorruptRecord, entry_ids
from runner.records.row_fields import (
    Cut,
    fill,
    header_size,
    runs,
    small_parts,
    small_size,
)
from runner.records.symbols.zstd import (
    compressed,
    decompressed,
    split,
    with_sizes,
)


def pack(layout: Layout, table: CodeTable, record: bytes) -> bytes:
    """Return the bytes to store of a whole record of `layout`; it is not checked."""
    fields = np.frombuffer(record, layout.dtype, 1)[0]
    if layout.wide:
        ids = entry_ids(layout, fields)
        assert ids is not None  # of best entries
    else:
        ids = fields["ids16"]

    # Entries.
    code = table.codes.take(ids).reshape(-1).view("u1")
    low, symbols = (np.ascontiguousarray(code[part::2]) for part in (0, 1))
    escaped = ids.reshape(-1)[np.flatnonzero(symbols == ESCAPE)] >> 8
    gaps = gaps_by_rank(stored_drops(layout, fields))
    high = gaps >> table.shift
    far = gaps[high >= ESCAPE] if high.max(initial=0) >= ESCAPE else gaps[:0, 0]
    lowest = gaps.astype(np.uint8)
    bits = [
        np.packbits(lowest[:ranks] & np.uint8(1 << bit))
        for bit, ranks in enumerate(table.planes)
    ]

    # What is no entry.
    small, others = small_parts(layout, ids, fields)
    frames = (
        compressed(symbols),
        compressed(np.minimum(high, ESCAPE).astype(np.uint8)),
        compressed(*small),
    )
    return b"".join(
        (
            record[: header_size(layout)],
            with_sizes(frames),
            low.take(np.flatnonzero(symbols >= DIRECT)).tobytes(),
            escaped.astype(_high_byte(layout)).tobytes(),
            far.tobytes(),
            *(plane.tobytes() for plane in bits),
            others,
            record[layout.dtype.itemsize :],
        )
    )


def unpack(layout: Layout, table: CodeTable, stored: bytes) -> bytes:
    """Return the record; the inverse of `pack`. Its own checksum is not compared.

    Raises:
      CorruptRecord: The bytes are not of a record of `layout`.
    """
    try:
        return _unpacked(layout, table, stored)
    except (ValueError, IndexError) as error:
        raise CorruptRecord("it cannot be unpacked: it is damaged") from error


def _unpacked(layout: Layout, table: CodeTable, stored: bytes) -> bytes:
    length, k, header = layout.sequence_length, layout.entries, header_size(layout)
    record = bytearray(layout.dtype.itemsize)
    record[:header] = stored[:header]
    fields = np.frombuffer(record, layout.dtype)
    (ids, gaps, small), rest = split(memoryview(stored)[header:], 3)
    rest = Cut(rest)

    # Entries.
    symbols = decompressed(ids, length * k)
    low = np.zeros(symbols.shape, np.uint8)
    with_low = np.flatnonzero(symbols >= DIRECT)
    low[with_low] = rest.take("u1", len(with_low))
    ids = table.ids.take((symbols.astype("<u2") << 8) + low)
    escaped = np.flatnonzero(symbols == ESCAPE)
    ids[escaped] += rest.take(_high_byte(layout), len(escaped)).astype(ids.dtype) << 8
    gaps = decompressed(gaps, length * (k - 1))
    drops = _drops(table, gaps.reshape(k - 1, length), rest).T
    if layout.rounded:
        drops = rounding.values(drops, layout.format)
    fields["drops"] = drops

    # What is no entry.
    small = decompressed(small, small_size(layout))
    fill(layout, fields, ids.reshape(length, k), small, rest)
    return b"".join((record, runs(layout, fields, rest)))


def _drops(table: CodeTable, symbols: np.ndarray, rest: Cut) -> np.ndarray:
    """Return the drops `[k-1 T]` of the symbols of gaps, and of what is beside them."""
    gaps = symbols.astype("<u2")
    escaped = np.flatnonzero(symbols == ESCAPE)
    far = rest.take("<u2", len(escaped))
    gaps <<= table.shift
    lowest = np.zeros(symbols.shape, np.uint8)
    for bit, ranks in enumerate(table.planes):
        count = ranks * symbols.shape[1]
        plane = np.unpackbits(rest.take("u1", -(-count // 8)), count=count)
        lowest[:ranks] |= plane.reshape(ranks, -1) << bit
    gaps |= lowest
    gaps.reshape(-1)[escaped] = far
    # The sums of one rank after the other, in as many passes as their number has bits.
    step = 1
    while step < len(gaps):
        gaps[step:] += gaps[:-step].copy()
        step *= 2
    return gaps


def _high_byte(layout: Layout) -> np.dtype:
    return np.dtype("<u2" if layout.wide else "u1")
