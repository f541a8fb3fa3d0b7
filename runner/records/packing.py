"""Records of best entries in fewer bytes: the same record, bit for bit.

What is on the disk of a record of format 3 or 4, in this order; d: through deflate,
with Huffman codes alone:

    header            as in the record, its checksum too: that of the record unpacked
    d drops           each less the one before, as symbols (`bit_fields`), those of a
                      rank shifted so that all ranks have the same ones
    d often           the ids that stand in the record twice and more (`often`)
    d ids             as symbols of that list, or of plain numbers
    d small           where each token but the first is among the entries before it, the
                      high bytes of log-normalisers and log-rests, hits, known positions
    tokens            those that are not among the entries
    words             the low bytes of log-normalisers and log-rests
    runs              as in the record
    low bits          of the list, the drops and the ids

In format 4 drops are places in a grid, and words have one low byte (`rounding`).
"""

import zlib

import numpy as np

from runner.records import bit_fields, codes, rounding
from runner.records import often as often_ids
from runner.records.layout import ROUNDED, Layout
from runner.records.record import CorruptRecord, decode, entry_ids

_NOWHERE = 255  # a token is none of the first 255 entries
_MOST_SHIFT = 96
_SIZES = 4 * often_ids.CLASSES  # bytes


def pack(layout: Layout, record: bytes) -> bytes:
    """Return the bytes to store of a whole record of `layout`."""
    fields = decode(layout, record).fields
    ids = entry_ids(layout, fields)
    assert ids is not None  # of best entries
    drops = fields["drops"].astype(np.int32)
    if layout.format == ROUNDED:
        drops = rounding.places(drops)
    listed, classes = often_ids.list_ids(ids, layout.vocab_size)
    steps = bit_fields.split(classes.steps(listed))
    gaps = bit_fields.split(np.diff(drops, axis=-1, prepend=0))
    entries = [x[ids] for x in often_ids.alphabet(listed, classes, layout.vocab_size)]
    widths, low = (
        np.concatenate([x[part].reshape(-1) for x in (steps, gaps, entries)])
        for part in (1, 2)
    )
    places, others = _places(layout, ids, fields)
    small = [places, *(fields[name] for name in _small(layout))]
    return b"".join(
        (
            record[: _header(layout)],
            _deflated(gaps[0] + _shifts(layout)),
            _deflated(classes.sizes.astype("<u4"), steps[0]),
            _deflated(entries[0]),
            _deflated(*small),
            others.tobytes(),
            *(_low_bytes(layout, fields[f"{name}_low"]) for name in layout.words),
            record[layout.dtype.itemsize :],
            bit_fields.packed(low, widths),
        )
    )


def unpack(layout: Layout, stored: bytes) -> bytes:
    """Return the record; the inverse of `pack`. Its own checksum is not compared.

    Raises:
      CorruptRecord: The bytes are not of a record of `layout`.
    """
    try:
        return _unpacked(layout, stored)
    except (ValueError, IndexError, zlib.error) as error:
        raise CorruptRecord("it cannot be unpacked: it is damaged") from error


def _unpacked(layout: Layout, stored: bytes) -> bytes:
    length, k, header = layout.sequence_length, layout.entries, _header(layout)
    record = bytearray(layout.dtype.itemsize)
    record[:header] = stored[:header]
    (fields,) = np.frombuffer(record, layout.dtype)[None].view(np.ndarray)
    rest = stored[header:]
    gaps, rest = _inflated(rest, length * (k - 1))
    list_, rest = _inflated(rest, _SIZES + layout.vocab_size, exactly=False)
    symbols, rest = _inflated(rest, length * k)
    sizes = [fields[name].nbytes for name in _small(layout)]
    small, rest = _inflated(rest, length - 1 + sum(sizes))

    # What is no entry.
    places, *planes = np.split(small, np.cumsum([length - 1, *sizes[:-1]]))
    for name, plane in zip(_small(layout), planes, strict=True):
        fields[name] = plane.reshape(fields[name].shape)
    count = 1 + int((places == _NOWHERE).sum())
    size = count * _token(layout).itemsize
    others, rest = np.frombuffer(rest[:size], _token(layout)), rest[size:]
    for name in layout.words:
        size = fields[f"{name}_high"].size * _word_bytes(layout)
        fields[f"{name}_low"] = _low_words(layout, rest[:size], fields[f"{name}_high"])
        rest = rest[size:]
    size = int(fields["runs"].sum()) * layout.run.itemsize
    runs, rest = rest[:size], rest[size:]

    # Entries, of which the low bits come last.
    step = list_[_SIZES:]
    classes = often_ids.Classes(list_[:_SIZES].view("<u4"), len(step))
    gaps = (gaps.reshape(length, k - 1) - _shifts(layout)).reshape(-1)
    widths = bit_fields.widths(step), bit_fields.widths(gaps), classes.widths[symbols]
    low = bit_fields.unpacked(rest, np.concatenate(widths))
    low = np.split(low, [len(step), len(step) + len(gaps)])
    drops = bit_fields.join(gaps, low[1]).reshape(length, k - 1)
    drops = np.cumsum(drops, axis=-1, dtype=np.uint32)
    if layout.format == ROUNDED:
        drops = rounding.values(drops)
    listed = classes.listed(bit_fields.join(step, low[0]))
    ids = classes.ids(symbols, low[2], listed).reshape(length, k)
    tokens = _tokens(ids, places, others)
    fields["drops"], fields["ids16"], fields["tokens16"] = drops, ids, tokens
    if layout.wide:
        fields["ids4"] = codes.high_bits(ids)
        fields["tokens4"] = codes.high_bits(tokens)
    return bytes(record) + runs


def _places(layout, ids, fields) -> tuple[np.ndarray, np.ndarray]:
    """Return where tokens are among the entries before them, and those that are not."""
    tokens = codes.join_ids(
        fields["tokens16"], fields["tokens4"] if layout.wide else None
    )
    same = ids[:-1, :_NOWHERE] == tokens[1:, None]
    places = np.where(same.any(-1), same.argmax(-1), _NOWHERE).astype(np.uint8)
    others = np.concatenate([tokens[:1], tokens[1:][places == _NOWHERE]])
    return places, others.astype(_token(layout))


def _tokens(ids, places, others) -> np.ndarray:
    """Return the tokens; the inverse of `_places`."""
    tokens = np.empty(len(ids), np.int64)
    tokens[0] = others[0]
    nowhere = places == _NOWHERE
    row = np.arange(len(places))
    tokens[1:] = ids[row, np.where(nowhere, 0, places)]
    tokens[1:][nowhere] = others[1:]
    return tokens


def _header(layout: Layout) -> int:
    """Return the bytes before the planes."""
    assert layout.dtype.fields
    return layout.dtype.fields["ids16"][1]


def _small(layout: Layout) -> list[str]:
    """Return the names of the planes of small numbers."""
    known = ["known"] if layout.partial else []
    return [*(f"{name}_high" for name in layout.words), "hits", *known]


def _token(layout: Layout) -> np.dtype:
    return np.dtype("<u4" if layout.wide else "<u2")


def _shifts(layout: Layout) -> np.ndarray:
    """Return by how much symbols of a rank are shifted: gaps fall as 1 / rank."""
    ranks = np.arange(1, layout.entries)
    return np.minimum(np.rint(4 * np.log2(ranks)), _MOST_SHIFT).astype(np.uint8)


def _word_bytes(layout: Layout) -> int:
    return 1 if layout.format == ROUNDED else 2


def _low_bytes(layout: Layout, low: np.ndarray) -> bytes:
    if layout.format == ROUNDED:
        return (low >> rounding.WORD_BITS).astype("u1").tobytes()
    return low.tobytes()


def _low_words(layout: Layout, stored: bytes, like: np.ndarray) -> np.ndarray:
    if layout.format == ROUNDED:
        words = np.frombuffer(stored, "u1").astype("<u2") << rounding.WORD_BITS
    else:
        words = np.frombuffer(stored, "<u2")
    return words.reshape(like.shape)


def _deflated(*parts: np.ndarray) -> bytes:
    coder = zlib.compressobj(1, wbits=-15, memLevel=9, strategy=zlib.Z_HUFFMAN_ONLY)
    data = b"".join(part.tobytes() for part in parts)
    return coder.compress(data) + coder.flush()


def _inflated(
    data: bytes, most: int, *, exactly: bool = True
) -> tuple[np.ndarray, bytes]:
    """Return the bytes of a stream, and what follows it; no more than `most`."""
    coder = zlib.decompressobj(wbits=-15)
    out = coder.decompress(data, most + 1)
    if not coder.eof or len(out) > most or (exactly and len(out) != most):
        raise ValueError("a stream has another length")
    return np.frombuffer(out, np.uint8), coder.unused_data
