"""The parts of records that are a few numbers a token: all but the entries.

First as they are in a record, then as they lie packed in a file.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.records import codes, rounding
from runner.records.codes import NotRecordable
from runner.records.layout import RUNS, Layout
from runner.records.rows import binding, default_positions, next_tokens

_NOWHERE = 255  # a token is none of the first 255 entries


def fields_by_row(layout, indices, arrays) -> tuple[dict[str, np.ndarray], list[bytes]]:
    """Return the fields `[B ...]` of each record but for its entries, and its runs.

    Raises:
      NotRecordable: A token is outside the vocabulary, or a number is not finite.
    """
    runs, counts = _coded_runs(layout, arrays)
    check_ids(layout, "tokens", arrays["tokens"])
    hashed = {name: arrays[name] for name in ("tokens", "segment_ids", "positions")}
    bindings = [
        binding({name: x[i] for name, x in hashed.items()}) for i in range(len(runs))
    ]
    fields = {
        "index": np.asarray(indices, np.uint64),
        "targets": (arrays["counted"] != 0).sum(-1),
        "binding": np.frombuffer(b"".join(bindings), "u1").reshape(-1, 16),
        "runs": counts,
        **planes(layout, "tokens", arrays["tokens"]),
    }
    for name in layout.words:
        words = codes.to_fixed_point(np.moveaxis(arrays[name], -1, -2), name)
        low, high = rounding.words(*words) if layout.rounded else words
        fields |= {f"{name}_low": low, f"{name}_high": high}
    return fields, runs


def check_ids(layout, name, ids) -> None:
    """Refuse ids outside of the vocabulary.

    Raises:
      NotRecordable: One is.
    """
    if ids.dtype == np.int32:  # one pass: negative ones are the largest
        outside = ids.view(np.uint32).max(initial=0) >= layout.vocab_size
    else:
        outside = ids.min() < 0 or ids.max() >= layout.vocab_size
    if outside:
        raise NotRecordable(
            f"{name} reach from {ids.min()} to {ids.max()}, outside of a vocabulary of "
            f"{layout.vocab_size}"
        )


def planes(layout, name, ids) -> dict[str, np.ndarray]:
    """Planes of ids by field; of the first, the low 16 bits count."""
    return {f"{name}16": ids} | (
        {f"{name}4": codes.high_bits(ids)} if layout.wide else {}
    )


class Cut:
    """Bytes that are taken one part after the other."""

    def __init__(self, data: bytes | memoryview):
        self._data, self._at = data, 0

    def take(self, dtype: Any, count: int) -> np.ndarray:
        """Return the next `count` numbers.

        Raises:
          ValueError: There are fewer.
        """
        if not count:
            return np.empty(0, dtype)
        numbers = np.frombuffer(self._data, dtype, count, self._at)
        self._at += numbers.nbytes
        return numbers

    @property
    def rest(self) -> bytes:
        """Bytes that were not taken."""
        return bytes(self._data[self._at :])


def header_size(layout: Layout) -> int:
    """Return the bytes before the planes."""
    assert layout.dtype.fields
    return layout.dtype.fields["ids16"][1]


def small_parts(
    layout: Layout, ids: np.ndarray, fields: np.ndarray
) -> tuple[np.ndarray, list[bytes]]:
    """Return `[B small]`, the bytes that an entropy code shrinks, and all others.

    Args:
      layout: Of the records.
      ids: `[B T k]`, their entries.
      fields: `[B]`, of the records.
    """
    tokens = fields["tokens16"]
    if layout.wide:
        tokens = codes.join_ids(tokens, fields["tokens4"])
    among = ids[:, :-1, :_NOWHERE] == tokens[:, 1:, None]
    row, place = np.divmod(np.flatnonzero(among)[::-1], among.shape[-1])
    places = np.full(tokens[:, 1:].shape, _NOWHERE, np.uint8)
    places.reshape(-1)[row] = place  # the first of some, which comes last
    small = [places, *(by_record(fields[name]) for name in _small(layout))]

    alone = np.ones(tokens.shape, bool)
    alone[:, 1:] = places == _NOWHERE
    others = tokens[alone].astype(_token(layout))
    others = cut(others, np.count_nonzero(alone, axis=1))
    words = [_low_bytes(layout, fields[f"{name}_low"]) for name in layout.words]
    others = [b"".join(parts) for parts in zip(others, *words, strict=True)]
    return np.concatenate(small, axis=1), others


def small_size(layout: Layout) -> int:
    """Return the number of bytes of the arrays of `small_parts`."""
    sizes = [layout.dtype[name].itemsize for name in _small(layout)]
    return layout.sequence_length - 1 + sum(sizes)


def fill(
    layout: Layout,
    fields: np.ndarray,
    ids: np.ndarray,
    small: np.ndarray,
    rests: Sequence[Cut],
) -> None:
    """Fill the fields `[B]` of records but for their drops; undoes `small_parts`."""
    length = layout.sequence_length
    places, at = small[:, : length - 1], length - 1
    for name in _small(layout):
        field = fields[name]
        end = at + field[0].size
        field[...] = small[:, at:end].reshape(field.shape)
        at = end
    alone = np.ones((len(fields), length), bool)
    alone[:, 1:] = places == _NOWHERE
    among = np.zeros(alone.shape, np.int64)
    among[:, 1:] = np.arange(length - 1) * layout.entries + places
    among += np.arange(len(fields))[:, None] * length * layout.entries
    among[alone] = 0
    tokens = ids.reshape(-1).take(among)
    tokens[alone] = parts_of(rests, _token(layout), np.count_nonzero(alone, axis=1))
    fields["ids16"], fields["tokens16"] = ids, tokens
    if layout.wide:
        fields["ids4"] = codes.high_bits(ids)
        fields["tokens4"] = codes.high_bits(tokens)
    for name in layout.words:
        field = fields[f"{name}_low"]
        dtype = "u1" if layout.rounded else "<u2"
        low = parts_of(rests, dtype, [field[0].size] * len(rests))
        if layout.rounded:
            low = low.astype("<u2") << rounding.WORD_BITS
        field[...] = low.reshape(field.shape)


def runs(layout: Layout, fields: np.void, rest: Cut) -> bytes:
    """Return the runs of a record, which follow."""
    return rest.take("u1", int(fields["runs"].sum()) * layout.run.itemsize).tobytes()


def by_record(x: np.ndarray) -> np.ndarray:
    """`[B n]` of `x` `[B ...]`."""
    return x.reshape(len(x), -1)


def cut(x: np.ndarray, counts: Sequence[int] | np.ndarray) -> list[memoryview]:
    """Return the bytes of so many numbers of `x` for each record."""
    data, ends = memoryview(x.tobytes()), np.cumsum(counts) * x.itemsize
    starts = [0, *ends.tolist()]
    return [data[a:b] for a, b in itertools.pairwise(starts)]


def parts_of(
    rests: Sequence[Cut], dtype: Any, counts: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Return so many numbers of each record, one record after the other.

    Raises:
      ValueError: There are fewer.
    """
    parts = zip(rests, map(int, counts), strict=True)
    return np.concatenate([rest.take(dtype, count) for rest, count in parts])


def _coded_runs(layout, rows) -> tuple[list[bytes], np.ndarray]:
    """Return the runs of each record, and the number of each kind `[B 4]`."""
    segments = rows["segment_ids"]
    differences = {
        "segment_ids": segments,
        "positions": rows["positions"] - default_positions(segments),
        "mask": (rows["mask"] != 0).astype(np.int32) - (segments > 0),
        "targets": rows["targets"] - next_tokens(rows["tokens"]),
    }
    # What follows from the tokens and segments is zero throughout: one run.
    coded = [codes.to_runs(differences[name], layout.run) for name in RUNS]
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


def _small(layout: Layout) -> list[str]:
    """Return the names of the planes of small numbers."""
    known = ["known"] if layout.partial else []
    return [*(f"{name}_high" for name in layout.words), "hits", *known]


def _token(layout: Layout) -> np.dtype:
    return np.dtype("<u4" if layout.wide else "<u2")


def _low_bytes(layout: Layout, low: np.ndarray) -> list[bytes]:
    if layout.rounded:
        low = (low >> rounding.WORD_BITS).astype("u1")
    return [x.tobytes() for x in low]
