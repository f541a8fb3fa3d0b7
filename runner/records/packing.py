"""Records of best entries in fewer bytes: the same record, bit for bit.

What is on the disk of a record of format 7 or 8, in this order; z: through zstd, whose
Huffman codes are all that such bytes gain from:

    header            as in the record, but its checksum: that of what is on the disk
    sizes             of the three frames
    z ids             symbols, `[T k]`, of the table of the shard (`code_table`)
    z gaps            symbols, `[T k-1]`: each drop less the one before, without the
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

In format 8 drops are places in a grid, and words have one low byte (`rounding`). In
formats 5 and 6, which are read, gaps lie by rank, and the checksum is the record's.

Some records are packed, or unpacked, at once: each pass of NumPy costs a call.
"""

from collections.abc import Sequence

import numpy as np

from runner.records import rounding
from runner.records.code_table import CodeTable, stored_drops
from runner.records.layout import BY_RANK, CHECKED, MAGIC, Layout
from runner.records.record import (
    CorruptRecord,
    check_header,
    checksum,
    entry_ids,
)
from runner.records.row_fields import (
    Cut,
    by_record,
    cut,
    fill,
    header_size,
    parts_of,
    runs,
    small_parts,
    small_size,
)
from runner.records.symbols import passes
from runner.records.symbols.passes import DIRECT, ESCAPE
from runner.records.symbols.zstd import (
    compressed,
    decompressed,
    split,
    with_sizes,
)

_AT_ONCE = 1 << 18  # entries


def pack(layout: Layout, table: CodeTable, records: Sequence[bytes]) -> list[bytes]:
    """Return the bytes to store of whole records of `layout`; they are not checked."""
    step = at_once(layout)
    parts = (records[at : at + step] for at in range(0, len(records), step))
    return [stored for part in parts for stored in _packed(layout, table, part)]


def unpack(layout: Layout, table: CodeTable, stored: bytes) -> bytes:
    """Return a record; the inverse of `pack`. Of formats 5 and 6, it is not checked.

    Raises:
      CorruptRecord: The bytes are not of a record of `layout`.
    """
    try:
        fields, coded = unpack_fields(layout, table, [stored])
    except CorruptRecord as error:
        raise CorruptRecord(error.args[0]) from error
    record = bytearray(fields.tobytes() + coded[0])
    if layout.checked_packed:
        record[len(MAGIC) : CHECKED] = checksum(memoryview(record)[CHECKED:])
    return bytes(record)


def unpack_fields(
    layout: Layout, table: CodeTable, stored: Sequence[bytes]
) -> tuple[np.ndarray, list[bytes]]:
    """Return records up to their runs, `[B]` of `layout.dtype`, and the runs of each.

    Raises:
      CorruptRecord: One is not of a record of `layout`; its `args` are the reason and
        its place in the list.
    """
    if layout.checked_packed:
        for place, one in enumerate(stored):
            try:
                check_header(layout, one)
            except CorruptRecord as error:
                raise CorruptRecord(str(error), place) from None
    fields, coded, step = np.empty(len(stored), layout.dtype), [], at_once(layout)
    for at in range(0, len(stored), step):
        part = slice(at, at + step)
        try:
            coded += _unpack(layout, table, stored[part], fields[part])
        except (ValueError, IndexError):
            _blame(layout, table, stored, at)
    return fields, coded


def at_once(layout: Layout) -> int:
    """Return the number of records that are packed at once."""
    return max(1, _AT_ONCE // (layout.sequence_length * layout.entries))


def _packed(layout: Layout, table: CodeTable, records: Sequence[bytes]) -> list[bytes]:
    size, header = layout.dtype.itemsize, header_size(layout)
    views = [memoryview(record) for record in records]
    fields = np.frombuffer(b"".join(view[:size] for view in views), layout.dtype)
    ids = entry_ids(layout, fields) if layout.wide else fields["ids16"]
    assert ids is not None  # of best entries

    # Entries.
    symbols, low, escaped = passes.split_ids(ids, table.codes)
    planes = table.planes(layout.sequence_length)
    high, far, bits = passes.split_gaps(
        stored_drops(layout, fields), table.shift, planes
    )
    bits = np.packbits(bits, axis=1)

    # What is no entry.
    small, others = small_parts(layout, ids, fields)
    symbols, high = by_record(symbols), by_record(high)
    stored = []
    for view, *frames, low_, escaped_, far_, planes_, other in zip(
        views,
        symbols,
        high,
        small,
        cut(low, _counts(symbols >= DIRECT)),
        cut(escaped.astype(_high_byte(layout)), _counts(symbols == ESCAPE)),
        cut(far, _counts(high == ESCAPE)),
        bits,
        others,
        strict=True,
    ):
        body = (
            view[CHECKED:header],
            with_sizes([compressed(frame) for frame in frames]),
            low_,
            escaped_,
            far_,
            planes_.tobytes(),
            other,
            view[size:],
        )
        stored.append(b"".join((MAGIC, checksum(*body), *body)))
    return stored


def _unpack(
    layout: Layout, table: CodeTable, stored: Sequence[bytes], fields: np.ndarray
) -> list[bytes]:
    """Fill `fields` `[B]`; return the runs."""
    length, k, header = layout.sequence_length, layout.entries, header_size(layout)
    heads = b"".join(memoryview(one)[:header] for one in stored)
    whole = fields.view("u1").reshape(len(fields), -1)
    whole[:, :header] = np.frombuffer(heads, "u1").reshape(len(fields), header)
    frames, rests = zip(
        *(split(memoryview(one)[header:], 3) for one in stored), strict=True
    )
    rests = [Cut(rest) for rest in rests]
    sizes = length * k, length * (k - 1), small_size(layout)
    symbols, high, small = (
        np.stack([decompressed(frame, size) for frame in of_one])
        for of_one, size in zip(zip(*frames, strict=True), sizes, strict=True)
    )

    # Entries.
    planes = table.planes(length)
    low = parts_of(rests, "u1", _counts(symbols >= DIRECT))
    escaped = parts_of(rests, _high_byte(layout), _counts(symbols == ESCAPE))
    ids = passes.join_ids(symbols, low, escaped, table.ids)
    far = parts_of(rests, "<u2", _counts(high == ESCAPE))
    bits = parts_of(rests, "u1", [planes.starts[-1] // 8] * len(fields))
    bits = np.unpackbits(bits.reshape(len(fields), -1), axis=1)
    if layout.format in BY_RANK:
        high, bits = _by_token(layout, planes, high, bits)
    high = high.reshape(len(fields), length, k - 1)
    drops = passes.join_gaps(high, far, bits, table.shift, planes)
    fields["drops"] = rounding.values(drops, layout.format) if layout.rounded else drops

    # What is no entry.
    fill(layout, fields, ids.reshape(-1, length, k), small, rests)
    coded = [runs(layout, *one) for one in zip(fields, rests, strict=True)]
    if any(rest.rest for rest in rests):
        raise ValueError("there are more bytes")
    return coded


def _by_token(
    layout: Layout, planes: passes.Planes, high: np.ndarray, bits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return symbols and low bits by token of those by rank, of formats 5 and 6."""
    length = layout.sequence_length
    high = np.moveaxis(high.reshape(len(high), layout.entries - 1, length), 1, 2)
    turned = np.zeros_like(bits)
    for before, after in zip(planes.of(bits), planes.of(turned), strict=True):
        after[...] = np.moveaxis(before.reshape(len(bits), -1, length), 1, 2)
    return np.ascontiguousarray(high), turned


def _blame(layout: Layout, table: CodeTable, stored: Sequence[bytes], at: int) -> None:
    """Refuse the first record from `at` on that cannot be unpacked."""
    for place in range(at, len(stored)):
        try:
            _unpack(layout, table, stored[place:][:1], np.empty(1, layout.dtype))
        except (ValueError, IndexError) as error:
            reason = "it cannot be unpacked: it is damaged"
            raise CorruptRecord(reason, place) from error


def _counts(of: np.ndarray) -> list[int]:
    """Return the number of true values of each record, `[B n]`."""
    return [int(np.count_nonzero(one)) for one in of]


def _high_byte(layout: Layout) -> np.dtype:
    return np.dtype("<u2" if layout.wide else "u1")
