"""Packed teacher records beside plain ones: bytes a token, divergence, rates.

    make bench ONLY=packed_records
    python -m tests.benchmarks.packed_records_bench RECORDS ...

The second weighs records that are there, each row written again in every coding. Bytes
are those of a file of all rows: its records, its table of codes, and 64 a record of the
file's own; files are rounded up to 64 KiB beside it. Rates are over those of plain
records, by processor, medians of 7 rounds in turn (min - max): encoding with writing,
and joining. Without directories, entries are those of `records_bench`.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from runner.machine import heap
from runner.records.code_table import SAMPLE, CodeTable
from runner.records.format import encode_batch
from runner.records.layout import CODINGS, FORMAT, Layout
from runner.records.manifest import Shard
from runner.records.packing import pack
from runner.records.reader import Records
from runner.records.record import Record, decode
from runner.records.shards import write_shard
from tests.benchmarks import records_bench as plain
from tests.benchmarks import timed_step

VOCABULARIES, COUNT, ROUNDS, OF_FILE = (4096, 49_152, 1 << 16), 256, 7, 64
Numbers = dict[str, np.ndarray]


def main() -> None:
    """Print sizes, of what is asked for; without, rates too."""
    heap.keep_pages()
    for directory in sys.argv[1:]:
        print(directory, weighed(*recorded(directory)))
    if sys.argv[1:]:
        return
    for vocab_size in VOCABULARIES:
        layout = dataclasses.replace(plain.TOP, vocab_size=vocab_size)
        print(weighed(layout, *first(*plain.content(layout))))
    rates()


def first(rows: Numbers, stored: Numbers) -> tuple[Numbers, Numbers]:
    """Return the first `COUNT` of some rows."""
    first_rows = {name: x[:COUNT] for name, x in rows.items()}
    return first_rows, {name: x[:COUNT] for name, x in stored.items()}


def recorded(directory: str) -> tuple[Layout, Numbers, Numbers]:
    """Return the layout, rows and entries of the first records of a directory."""
    records = Records.load(directory)
    layout = dataclasses.replace(records.layout, format=FORMAT)
    read = records.read(range(min(len(records), COUNT)))
    stored = {
        name: np.stack([getattr(record, name) for record in read])
        for name in (*layout.words, "known")
    }
    stored["indices"] = np.stack([np.asarray(record.ids) for record in read])
    stored["logits"] = np.stack([whole_logits(record) for record in read])
    rows = {name: np.stack([x.row[name] for x in read]) for name in read[0].row}
    return layout, rows, stored


def weighed(layout: Layout, rows: Numbers, stored: Numbers) -> str:
    """Say bytes a token of each coding, and the divergence of the last."""
    count, cells, kept = len(rows["tokens"]), [], []
    for coding, version in CODINGS.items():
        coded = dataclasses.replace(layout, format=version)
        records = encode_batch(coded, indices=range(count), rows=rows, stored=stored)
        kept.append(np.stack([log_p(decode(coded, record)) for record in records]))
        table = CodeTable.of(coded, records[:SAMPLE]) if coded.packed else None
        if table:
            records = [table.to_bytes(), *pack(coded, table, records)]
        total = sum(len(record) + OF_FILE for record in records)
        cells.append(f"{coding} {total / count / layout.sequence_length:.1f}")
    divergence = (np.exp(kept[0]) * (kept[0] - kept[-1])).sum(-1).mean()
    return (
        f"{count} rows of {layout.sequence_length}, vocabulary {layout.vocab_size}: "
        f"{', '.join(cells)} bytes a token, KL {divergence:.2g} nats"
    )


def whole_logits(record: Record) -> np.ndarray:
    """`[T k]`, the best entry's 0 among them."""
    return np.pad(np.float64(record.logits), [(0, 0), (1, 0)])


def log_p(record: Record) -> np.ndarray:
    """`[T k + 1]`: of the entries, and of all others."""
    logits = np.concatenate([whole_logits(record), record.log_rests[:, :1]], axis=-1)
    logits = np.maximum(logits, -1e3)  # of what is impossible
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def rates() -> None:
    """Print the rates of both codings over those of plain."""
    forms: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as name:
        for coding, version in CODINGS.items():
            layout = dataclasses.replace(plain.TOP, format=version)
            for part, run in works(layout, Path(name) / coding).items():
                forms[f"{coding}, {part}"] = run
        times = timed_step.in_turn(forms, ROUNDS)
    for coding in list(CODINGS)[1:]:
        for part in ("encode and write", "join"):
            ratios = timed_step.ratios(
                times[f"plain, {part}"], times[f"{coding}, {part}"]
            )
            print(f"{coding:<8} {part:<17} {timed_step.spread(ratios)}, target 0.7")


def works(layout: Layout, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what encodes and writes all records of a layout, and what joins them."""
    rows, stored = first(*plain.content(layout))
    order = np.random.default_rng(0).permutation(COUNT).reshape(-1, plain.BATCH)

    def write() -> Shard:
        records = (
            record
            for numbers in np.arange(COUNT).reshape(-1, plain.BATCH)
            for record in encode_batch(
                layout,
                indices=numbers,
                rows={name: x[numbers] for name, x in rows.items()},
                stored={name: x[numbers] for name, x in stored.items()},
            )
        )
        return write_shard(folder, 0, 1, records, layout, first=0)

    opened = Records(folder, plain.manifest(layout, write()))

    def join() -> None:
        for numbers in order:
            of_rows = {name: x[numbers] for name, x in rows.items()}
            opened.teacher_arrays(numbers, of_rows)

    return {"encode and write": write, "join": join}


if __name__ == "__main__":
    main()
