"""The parts of records that are a few numbers a token: all but the entries."""

import numpy as np

from runner.records import codes, rounding
from runner.records.codes import NotRecordable
from runner.records.layout import ROUNDED, RUNS
from runner.records.rows import binding, default_positions, next_tokens


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
        low, high = rounding.words(*words) if layout.format == ROUNDED else words
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
