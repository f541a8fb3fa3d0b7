"""A teacher record: what a teacher said about one row of data, as bytes and back.

A record is the structure `Layout.dtype`, then the runs of four arrays, each stored as
its difference from what the tokens and segments foretell, so that packed rows need few:

    segment_ids                             as they are
    positions - (place since the segment's first place, 0 in segment 0)
    mask      - (segment_ids > 0)
    targets   - (next token, 0 after the last)

No JAX here: `jnp.float32(-2**-11) * drops` are the logits, up to a constant a token;
for `top_k` the best entry's, which is 0, is not among them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from runner.errors import UserError
from runner.records import codes
from runner.records.codes import NotRecordable
from runner.records.layout import CHECKED, FORMAT, MAGIC, MODES, RUNS, Layout
from runner.records.record import Malformed, Record, checksum, decode, stack
from runner.records.rows import (
    best_first,
    binding,
    foretold_positions,
    hits,
    next_tokens,
)

__all__ = [
    "Layout",
    "Malformed",
    "Record",
    "binding",
    "decode",
    "encode",
    "encode_batch",
    "stack",
    "with_checksum",
]

_CACHED = 1 << 18  # entries encoded at once; with their logits 2 MiB


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
    """One record a row.

    indices: row numbers `[B]`.
    rows:    tokens, targets, mask, segment_ids, positions, each `[B T]`.
    stored:  for `top_k`: indices `[B T k]`, best first; logits `[B T k]`;
             log_normalizers `[B T temperatures]`, of logits less their largest:
             `log Σ_v exp((t_v - max t) / T)`.
             For `full`: logits `[B T V]`.
             For `sampled`: indices `[B T n]`, in any order; log_normalizers as above;
             entropies `[B T temperatures]`.

    Raises:
      UserError: an id is outside the vocabulary, or a number is not finite.
      ValueError: an array is missing, of another shape, or not best first.
    """
    given = _given(layout, len(indices), rows, stored)
    runs, counts = _coded_runs(layout, given)
    try:
        _check_ids(layout, "tokens", given["tokens"])
        records = []
        parts = _parts(layout, len(indices))
        whole = np.zeros(len(indices[parts[0]]) if parts else 0, layout.dtype)
        for part in parts:
            table = whole[: len(indices[part])]
            few = {name: x[part] for name, x in given.items()}
            _fill_header(layout, table, indices[part], few)
            table["runs"] = counts[part]
            _fill_entries(layout, table, few)
            records += _sealed(layout, table, runs[part])
    except NotRecordable as error:
        raise UserError(
            f"rows {indices[0]} to {indices[-1]} cannot be recorded: {error}"
        ) from error
    return records


def with_checksum(record: bytearray) -> bytes:
    """The record with its checksum in place."""
    record[len(MAGIC) : CHECKED] = checksum(memoryview(record)[CHECKED:])
    return bytes(record)


def _given(layout, count, rows, stored) -> dict[str, np.ndarray]:
    """All arrays that a layout takes, their shapes checked, the rows as int32."""
    whole = (count, layout.sequence_length)
    entries = {"indices": layout.entries, "logits": layout.entries}
    words = {name: len(layout.temperatures) for name in layout.words}
    wanted = {name: entries[name] for name in layout.arrays} | words
    given = {
        name: np.ascontiguousarray(_shaped(rows, name, whole), np.int32)
        for name in ("tokens", *RUNS)
    }
    for name, width in wanted.items():
        given[name] = _shaped(stored, name, (*whole, width))
    return given


def _parts(layout, count):
    """Slices of records whose entries stay in the cache from one step to the next."""
    step = max(1, _CACHED // (layout.sequence_length * layout.entries))
    return [slice(start, start + step) for start in range(0, count, step)]


def _fill_header(layout, table, indices, rows) -> None:
    table["magic"], table["format"] = MAGIC, FORMAT
    table["mode"] = MODES.index(layout.mode)
    table["temperatures"] = len(layout.temperatures)
    for name in ("sequence_length", "entries", "vocab_size"):
        table[name] = getattr(layout, name)
    table["tag"] = np.frombuffer(layout.tag, "u1")
    table["index"] = indices
    table["targets"] = (rows["mask"] != 0).sum(-1)
    for i in range(len(table)):
        row = {name: x[i] for name, x in rows.items()}
        table["binding"][i] = np.frombuffer(binding(row), "u1")


def _fill_entries(layout, table, given) -> None:
    ids = None
    _fill_ids(layout, table, "tokens", given["tokens"])
    if layout.mode != "full":
        ids = given["indices"]
        if layout.mode == "sampled":
            ids = np.sort(ids, axis=-1)
        _check_ids(layout, "ids", ids)
        _fill_ids(layout, table, "ids", ids)
    for name in layout.words:
        low, high = codes.fixed(np.moveaxis(given[name], -1, -2), name)
        table[f"{name}_low"], table[f"{name}_high"] = low, high
    if layout.mode == "full":
        logits = given["logits"]
        table["drops"] = codes.drops(logits, logits.max(-1, keepdims=True))
    if layout.mode == "top_k":
        logits = given["logits"]
        drops = codes.drops(logits, logits[..., :1])
        if not best_first(drops):
            raise ValueError("logits must be best first")
        table["drops"] = drops[..., 1:]
    found = hits(ids, given["targets"], given["mask"])
    table["hits"] = np.packbits(found, axis=-1)


def _check_ids(layout, name, ids) -> None:
    if ids.dtype == np.int32:  # one pass: negative ones are the largest
        outside = ids.view(np.uint32).max(initial=0) >= layout.vocab_size
    else:
        outside = ids.min() < 0 or ids.max() >= layout.vocab_size
    if outside:
        raise NotRecordable(
            f"{name} reach from {ids.min()} to {ids.max()}, outside of a vocabulary of "
            f"{layout.vocab_size}"
        )


def _fill_ids(layout, table, name, ids) -> None:
    table[f"{name}16"] = ids.astype("<u2")  # the low bits
    if layout.wide:
        table[f"{name}4"] = codes.halves(ids)


def _coded_runs(layout, rows) -> tuple[list[bytes], np.ndarray]:
    """Of each record its runs, and how many there are of each kind `[B 4]`."""
    segments = rows["segment_ids"]
    differences = {
        "segment_ids": segments,
        "positions": rows["positions"] - foretold_positions(segments),
        "mask": (rows["mask"] != 0).astype(np.int32) - (segments > 0),
        "targets": rows["targets"] - next_tokens(rows["tokens"]),
    }
    coded = [codes.runs(differences[name], layout.run) for name in RUNS]
    counts = np.stack([count for _, count in coded], -1)
    ends = np.cumsum(counts, 0)
    runs = [
        b"".join(
            flat[end - count : end].tobytes()
            for (flat, _), end, count in zip(coded, *of_record, strict=True)
            if count
        )
        for of_record in zip(ends.tolist(), counts.tolist(), strict=True)
    ]
    return runs, counts


def _sealed(layout, table, runs) -> list[bytes]:
    views = table.view("u1").reshape(len(table), layout.dtype.itemsize)
    sealed = []
    for i, coded in enumerate(runs):
        table["checksum"][i] = np.frombuffer(
            checksum(views[i, CHECKED:].data, coded), "u1"
        )
        sealed.append(b"".join((views[i], coded)))
    return sealed


def _shaped(arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"no {name!r} of shape {shape} to record")
    array = np.asarray(arrays[name])
    if array.shape != shape:
        raise ValueError(f"{name!r} must have shape {shape}, got {array.shape}")
    return array
