"""Teacher records as bytes: a teacher's outputs on one row of data, and back.

A record is the structure `Layout.dtype`, then the runs of four arrays, each stored as
its difference from what the tokens and segments foretell, so that packed rows need few:

    segment_ids                             as they are
    positions - (place since the segment's first place, 0 in segment 0)
    mask      - (segment_ids > 0)
    targets   - (next token, 0 after the last)

No JAX here. `codes.logits` of the drops are the logits, up to a constant a token; for
`top_k` the best entry's, which is 0, is not among them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from runner.errors import UserError
from runner.records import codes, rounding
from runner.records.codes import NotRecordable
from runner.records.layout import CHECKED, MAGIC, MODES, RUNS, Layout
from runner.records.record import CorruptRecord, Record, checksum, decode, stack
from runner.records.row_fields import check_ids, fields_by_row, planes
from runner.records.rows import binding, hits

__all__ = [
    "CorruptRecord",
    "Layout",
    "Record",
    "binding",
    "decode",
    "encode",
    "encode_batch",
    "stack",
    "with_checksum",
]

_CACHED = 1 << 17  # entries encoded at once; with their logits 1 MiB


def encode(
    layout: Layout,
    *,
    index: int,
    row: Mapping[str, np.ndarray],
    stored: Mapping[str, np.ndarray],
) -> bytes:
    """The record of one row; `encode_batch` of a batch of one."""
    return encode_batch(
        layout,
        indices=[index],
        rows={name: np.asarray(x)[None] for name, x in row.items()},
        stored={name: np.asarray(x)[None] for name, x in stored.items()},
    )[0]


def encode_batch(
    layout: Layout,
    *,
    indices: Sequence[int] | np.ndarray,
    rows: Mapping[str, np.ndarray],
    stored: Mapping[str, np.ndarray],
) -> list[bytes]:
    """Encode one record a row.

    Args:
      layout: Of the records.
      indices: Row numbers `[B]`.
      rows: tokens, targets, mask, segment_ids, positions, each `[B T]`.
      stored: For `top_k`: indices `[B T k]`, best first; logits `[B T k]`;
        log_normalizers `[B T temperatures]`, of logits less their largest:
        `log Σ_v exp((t_v - max t) / T)`; log_rests, the same over all other ids.
        For `full`: logits `[B T V]`.
        For `sampled`: indices `[B T n]`, in any order; log_normalizers as above;
        entropies `[B T temperatures]`. Where the layout is partial: known, bool
        `[B T]`, the positions that were scored; the others hold whatever fits.

    Raises:
      UserError: An id is outside the vocabulary, or a number is not finite.
      ValueError: An array is missing, of another shape, or not best first.
    """
    arrays = _all_arrays(layout, len(indices), rows, stored)
    if not len(indices):
        return []
    try:
        if layout.rounded:
            arrays |= rounding.rounded_arrays(layout, arrays)
        fields, runs = fields_by_row(layout, indices, arrays)
        return _encode_parts(layout, arrays, fields, runs)
    except NotRecordable as error:
        raise UserError(
            f"rows {indices[0]} to {indices[-1]} cannot be recorded: {error}"
        ) from error


def with_checksum(record: bytearray) -> bytes:
    """The record with its checksum in place."""
    record[len(MAGIC) : CHECKED] = checksum(memoryview(record)[CHECKED:])
    return bytes(record)


def _all_arrays(layout, count, rows, stored) -> dict[str, np.ndarray]:
    """Return all arrays that a layout takes, shapes checked, those of rows as int32."""
    whole = (count, layout.sequence_length)
    entries = {"indices": layout.entries, "logits": layout.entries}
    words = {name: len(layout.temperatures) for name in layout.words}
    widths = {name: entries[name] for name in layout.arrays} | words
    arrays = {
        name: np.ascontiguousarray(_shaped(rows, name, whole), np.int32)
        for name in ("tokens", *RUNS)
    }
    for name, width in widths.items():
        arrays[name] = _shaped(stored, name, (*whole, width))
    if layout.partial:
        known = _shaped(stored, "known", whole).astype(bool)
        arrays |= {"known": known, "counted": known & (arrays["mask"] != 0)}
    else:
        arrays["counted"] = arrays["mask"]
    return arrays


def _part(layout) -> int:
    """Number of records whose entries stay in the cache from step to step."""
    return max(1, _CACHED // (layout.sequence_length * layout.entries))


def _encode_parts(layout, arrays, fields, runs) -> list[bytes]:
    """Encode some rows, a part after the other, in the same memory."""
    step, records = _part(layout), []
    table = _with_constants(layout, min(step, len(runs)))
    for start in range(0, len(runs), step):
        part = slice(start, start + step)
        filled = table[: len(runs[part])]
        for name, values in fields.items():
            filled[name] = values[part]
        _fill_entries(layout, filled, {name: x[part] for name, x in arrays.items()})
        records += _add_checksums(layout, filled, runs[part])
    return records


def _with_constants(layout: Layout, count: int) -> np.ndarray:
    """`[count]` of the layout's dtype, the fields that all records share filled in."""
    table = np.zeros(count, layout.dtype)
    table["magic"], table["format"] = MAGIC, layout.format
    table["mode"] = MODES.index(layout.mode)
    table["temperatures"] = len(layout.temperatures)
    for name in ("sequence_length", "entries", "vocab_size"):
        table[name] = getattr(layout, name)
    table["tag"] = np.frombuffer(layout.tag, "u1")
    return table


def _fill_entries(layout, table, arrays) -> None:
    ids = None
    if layout.mode != "full":
        ids = arrays["indices"]
        if layout.mode == "sampled":
            ids = np.sort(ids, axis=-1)
        check_ids(layout, "ids", ids)
        for name, plane in planes(layout, "ids", ids).items():
            table[name] = plane
    if layout.mode == "full":
        logits = arrays["logits"]
        largest = logits.max(-1, keepdims=True)
        table["drops"] = codes.drops(logits, largest, version=layout.format)
    if layout.rounded:
        table["drops"] = arrays["drops"][..., 1:]
    elif layout.mode == "top_k":
        ranked = codes.ranked_drops(arrays["logits"], version=layout.format)
        table["drops"] = ranked[..., 1:]
    hit = hits(ids, arrays["targets"], arrays["counted"])
    table["hits"] = np.packbits(hit, axis=-1)
    if layout.partial:
        table["known"] = np.packbits(arrays["known"], axis=-1)


def _add_checksums(layout, table, runs) -> list[bytes]:
    views = table.view("u1").reshape(len(table), layout.dtype.itemsize)
    records = []
    for i, coded in enumerate(runs):
        table["checksum"][i] = np.frombuffer(
            checksum(views[i, CHECKED:].data, coded), "u1"
        )
        records.append(b"".join((views[i], coded)))
    return records


def _shaped(source, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in source:
        raise ValueError(f"no {name!r} of shape {shape} to record")
    array = np.asarray(source[name])
    if array.shape != shape:
        raise ValueError(f"{name!r} must have shape {shape}, got {array.shape}")
    return array
