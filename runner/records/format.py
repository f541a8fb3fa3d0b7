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

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from runner.errors import UserError
from runner.records import codes
from runner.records.layout import CHECKED, FORMAT, MAGIC, MODES, RUNS, Layout
from runner.records.record import Malformed, Record, decode, stack
from runner.records.rows import binding, foretold_positions, hits, next_tokens

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
    table = np.zeros(len(indices), layout.dtype)
    length = layout.sequence_length
    rows = {
        name: _shaped(rows, name, (*table.shape, length)).astype(np.int32)
        for name in ("tokens", *RUNS)
    }
    _fill_header(layout, table, np.asarray(indices), rows)
    try:
        ids = _fill_entries(layout, table, stored)
        _fill_ids(layout, table, "tokens", rows["tokens"])
    except ValueError as error:
        if "best first" in str(error) or "shape" in str(error):
            raise
        raise UserError(
            f"rows {indices[0]} to {indices[-1]} cannot be recorded: {error}"
        ) from error
    table["hits"] = np.packbits(hits(ids, rows["targets"], rows["mask"]), axis=-1)
    return [_sealed(table[i : i + 1], runs) for i, runs in _runs(layout, table, rows)]


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


def _fill_entries(layout, table, stored) -> np.ndarray | None:
    """Planes of the entries; their ids."""
    whole = (*table.shape, layout.sequence_length)
    ids = None
    if layout.mode != "full":
        ids = _shaped(stored, "indices", (*whole, layout.entries)).astype(np.int32)
        if layout.mode == "sampled":
            ids = np.sort(ids, axis=-1)
        _fill_ids(layout, table, "ids", ids)
        _fill_nats(layout, table, "log_normalizers", stored, whole)
    if layout.mode == "sampled":
        _fill_nats(layout, table, "entropies", stored, whole)
    if layout.mode == "full":
        logits = _shaped(stored, "logits", (*whole, layout.vocab_size))
        logits = logits.astype(np.float32)
        table["drops"] = codes.drops(logits, logits.max(-1, keepdims=True))
    if layout.mode == "top_k":
        logits = _shaped(stored, "logits", (*whole, layout.entries))
        logits = logits.astype(np.float32)
        drops = codes.drops(logits, logits[..., :1])[..., 1:]
        if (drops[..., 1:] < drops[..., :-1]).any():
            raise ValueError("logits must be best first")
        table["drops"] = drops
    return ids


def _fill_ids(layout, table, name, ids) -> None:
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= layout.vocab_size:
        raise ValueError(
            f"{name} reach from {low} to {high}, outside of a vocabulary of "
            f"{layout.vocab_size}"
        )
    table[f"{name}16"] = ids & 0xFFFF
    if layout.wide:
        table[f"{name}4"] = codes.halves(ids)


def _fill_nats(layout, table, name, stored, whole) -> None:
    values = _shaped(stored, name, (*whole, len(layout.temperatures)))
    low, high = codes.fixed(np.moveaxis(values, -1, -2), name)
    table[f"{name}_low"], table[f"{name}_high"] = low, high


def _runs(layout, table, rows):
    """Place and coded runs of each record; their numbers go into the header."""
    segments = rows["segment_ids"]
    differences = {
        "segment_ids": segments,
        "positions": rows["positions"] - foretold_positions(segments),
        "mask": (rows["mask"] != 0).astype(np.int32) - (segments > 0),
        "targets": rows["targets"] - next_tokens(rows["tokens"]),
    }
    for i in range(len(table)):
        coded = [codes.runs(differences[name][i], layout.run) for name in RUNS]
        table["runs"][i] = [len(runs) for runs in coded]
        yield i, b"".join(runs.tobytes() for runs in coded)


def _sealed(fields: np.ndarray, runs: bytes) -> bytes:
    return with_checksum(bytearray(fields.tobytes() + runs))


def with_checksum(record: bytearray) -> bytes:
    """The record with its checksum in place."""
    digest = hashlib.blake2b(memoryview(record)[CHECKED:], digest_size=8).digest()
    record[len(MAGIC) : CHECKED] = digest
    return bytes(record)


def _shaped(arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"no {name!r} of shape {shape} to record")
    array = np.asarray(arrays[name])
    if array.shape != shape:
        raise ValueError(f"{name!r} must have shape {shape}, got {array.shape}")
    return array
