"""Every byte and every record of a directory, against its manifest and each other."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from runner.data.text.record_files import sha256_of
from runner.errors import UserError
from runner.records import checks
from runner.records.explain import own_binding
from runner.records.layout import Layout
from runner.records.manifest import Manifest, Shard
from runner.records.reader import Records
from runner.records.record import decode, entry_ids
from runner.records.rows import hits
from runner.records.vocabularies import recorded_vocabulary
from runner.writers.bars import Bar, percent
from runner.writers.terminal import Terminal

_MOST = 2**26  # bytes of records held at once


def verify(path: Path | str, terminal: Terminal | None = None) -> Manifest:
    """Check everything that can be checked without the data and the teacher.

    Each file by its sha256; the tokenizer's copy by its digest; each record by its
    checksum, its row number, its binding to its own tokens, and its values; all of
    them by their count, their targets and their hits.

    Raises:
      UserError: Naming the first file or record that is not what it should be.
    """
    terminal = terminal or Terminal()
    try:
        records = Records.load(path)
        _check_files(records, terminal)
        for shard in records.manifest.shards:
            _check_shard(records, shard, terminal)
        _show(terminal, 1.0, "records")
    finally:
        terminal.close()
    return records.manifest


def next_and_own(records: Records, numbers: np.ndarray) -> tuple[float, float]:
    """Share of the positions whose entries hit the next token, and the token itself.

    A teacher recorded one position off hits the token itself.
    """
    raw = records.read_bytes(numbers)
    table = records.table(numbers, raw)
    rows = [decode(records.layout, record) for record in raw]
    ids = entry_ids(records.layout, table)
    mask = np.stack([row.mask & row.known for row in rows])
    count = max(int(mask.sum()), 1)
    rates = [
        hits(ids, np.stack(targets), mask).sum() / count
        for targets in ([r.targets for r in rows], [r.tokens for r in rows])
    ]
    return float(rates[0]), float(rates[1])


def _check_files(records: Records, terminal: Terminal) -> None:
    shards = records.manifest.shards
    for number, shard in enumerate(shards):
        _show(terminal, number / len(shards), f"sha256 of {Path(shard.name).stem}")
        digest = sha256_of(records.directory / shard.name)
        if digest != shard.sha256:
            raise UserError(
                f"{records.directory / shard.name} is altered:\n"
                f"its sha256 is {digest[:16]}..., {shard.sha256[:16]}... was recorded"
            )
    recorded_vocabulary(records.manifest, records.directory)


def _check_shard(records: Records, shard: Shard, terminal: Terminal) -> None:
    totals = np.zeros(2, np.int64)
    for numbers in _batches(shard, records.layout):
        _show(terminal, numbers[0] / len(records), "records")
        totals += _check(records, numbers)
    if totals.tolist() != [shard.hits, shard.targets]:
        raise UserError(
            f"{records.directory / shard.name} holds {totals[0]} hits of "
            f"{totals[1]} targets, {shard.hits} of {shard.targets} were recorded"
        )


def _check(records: Records, numbers: np.ndarray) -> np.ndarray:
    """Refuse faulty records; return the numbers of hits and targets."""
    layout = records.layout
    raw = records.read_bytes(numbers)
    table = records.table(numbers, raw)
    # Without the data, a record is checked against the row that it holds itself.
    rows = []
    for number, record in zip(numbers.tolist(), raw, strict=True):
        row = own_binding(decode(layout, record))
        if isinstance(row, str):
            records.refuse(number, row)
        rows.append(row)
    targets = np.stack([row["targets"] for row in rows])
    mask = np.stack([row["mask"] for row in rows])
    fault = checks.first_fault(layout, table, targets, mask)
    fault = fault or checks.first_repeated(layout, table)
    if fault:
        records.refuse(int(numbers[fault[0]]), fault[1])
    counts = np.bitwise_count(table["hits"]).sum(), table["targets"].sum()
    return np.array(counts, np.int64)


def _batches(shard: Shard, layout: Layout) -> Iterator[np.ndarray]:
    step = max(1, min(256, _MOST // layout.dtype.itemsize))
    end = shard.first + shard.count
    for start in range(shard.first, end, step):
        yield np.arange(start, min(start + step, end))


def _show(terminal: Terminal, fraction: float, label: str) -> None:
    terminal.show(Bar("verifying", fraction, f"{percent(fraction)}  {label}"))
