"""Teacher records: how fast they are written, read and joined, and what they weigh.

    make bench ONLY=records

Rounds of everything in turn, so that a busy machine slows all of them; medians. After
each rate, in brackets, records a second of processor: what other work hides less. Raw
bytes are the same records written to one file, and read from it in order. Lists are the
same numbers in Python lists of a `tf.train.Example`, built here from its messages. Ids
have frequencies that fall as one over the id, and gaps between logits fall as one over
the rank: `ONLY=packed_records` says what packed records weigh.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runner.records.format import Layout, encode_batch
from runner.records.layout import PACKED, ROUNDED
from runner.records.manifest import Manifest, Origin, Shard
from runner.records.reader import Records
from runner.records.rows import default_positions
from runner.records.shards import write_shard

COUNT, BATCH, LENGTH, ROUNDS = 512, 32, 256, 5
PUBLISHED_LISTS = 165  # records/s of 512 tokens, lists of a tf.train.Example
ORIGIN = Origin(teacher="", weights="", dtype="", vocabulary="", end=0, data="")
TOP = Layout(mode="top_k", entries=64, vocab_size=50_000, sequence_length=LENGTH)
LAYOUTS = {
    "k=64, vocabulary 50k": TOP,
    "k=64, vocabulary 128k": Layout(
        mode="top_k", entries=64, vocab_size=128_000, sequence_length=LENGTH
    ),
    "k=128, vocabulary 128k": Layout(
        mode="top_k", entries=128, vocab_size=128_000, sequence_length=LENGTH
    ),
    "k=64, vocabulary 50k, packed": dataclasses.replace(TOP, format=PACKED),
    "k=64, vocabulary 50k, rounded": dataclasses.replace(TOP, format=ROUNDED),
    "n=12, vocabulary 128k": Layout(
        mode="sampled", entries=12, vocab_size=128_000, sequence_length=LENGTH
    ),
}
PEERS = {
    "k=128, vocabulary 128k": "883 B in one, about 300 B in another",
    "n=12, vocabulary 128k": "36 B in a paper",
}


class Rate(NamedTuple):
    """Records a second on the clock, and of processor."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:,.0f} ({self.cpu:,.0f})"


def main() -> None:
    """Prints one table: a layout a row, records a second."""
    head = ["encode", "write", "raw write", "join", "raw read", "bytes a token"]
    print(f"{'records/s of 256 tokens':<30}" + "".join(f"{h:>18}" for h in head))
    for name, layout in LAYOUTS.items():
        rates, size = measured(layout)
        cells = [str(rates[column]) for column in head[:-1]] + [f"{size:.1f}"]
        peers = f"   others: {PEERS[name]}" if name in PEERS else ""
        print(f"{name:<30}" + "".join(f"{c:>18}" for c in cells) + peers)
    random_reads()
    against_lists()


def measured(layout: Layout) -> tuple[dict[str, Rate], float]:
    """Medians of records a second, and bytes a token of the file."""
    rows, stored = content(layout)
    records = encoded(layout, rows, stored)
    with tempfile.TemporaryDirectory() as name:
        folder, raw = Path(name), Path(name) / "raw"
        shard = write_shard(folder, 0, 1, records, layout, first=0)
        opened = Records(folder, manifest(layout, shard))

        def join() -> None:
            for numbers in (
                np.random.default_rng(0).permutation(COUNT).reshape(-1, BATCH)
            ):
                opened.teacher_arrays(
                    numbers, {key: x[numbers] for key, x in rows.items()}
                )

        def raw_write() -> None:
            with raw.open("wb") as file:
                for record in records:
                    file.write(record)

        def raw_read() -> None:
            with raw.open("rb") as file:
                while file.read(len(records[0])):
                    pass

        rates = rates_of(
            {
                "encode": lambda: encode(layout, rows, stored),
                "write": lambda: write_shard(folder, 1, 2, records, layout, first=0),
                "raw write": raw_write,
                "join": join,
                "raw read": raw_read,
            }
        )
    return rates, shard.bytes / COUNT / LENGTH


def random_reads() -> None:
    """One record at a time, in any order, by how many a chunk of the file holds."""
    from array_record.python.array_record_module import ArrayRecordReader as Reader
    from array_record.python.array_record_module import ArrayRecordWriter as Writer

    records = encoded(TOP, *content(TOP))
    order = np.random.default_rng(0).permutation(COUNT)
    readers = {}
    with tempfile.TemporaryDirectory() as name:
        for size in (1, 64):
            path = str(Path(name) / str(size))
            writer = Writer(path, f"group_size:{size},uncompressed")
            for record in records:
                writer.write(record)
            writer.close()
            options = "readahead_buffer_size:0,max_parallelism:0"
            readers[f"group_size {size}"] = Reader(path, options)

        def read(reader) -> Callable[[], object]:
            return lambda: [reader.read([int(i)]) for i in order]

        rates = rates_of({size: read(reader) for size, reader in readers.items()})
    print(
        f"\n{'one at random':<24}"
        + ", ".join(f"{name}: {rate}" for name, rate in rates.items())
    )


def against_lists() -> None:
    """Encoding beside lists of a `tf.train.Example`, 512 tokens, k = 64."""
    layout = Layout(mode="top_k", entries=64, vocab_size=50_000, sequence_length=512)
    rows, stored = content(layout)
    contenders: dict[str, Callable[[], object]] = {
        "encode": lambda: encode(layout, rows, stored)
    }
    example = example_message()
    few = COUNT // 64
    if example:
        contenders["lists"] = lambda: [
            as_lists(example, rows, stored, i) for i in range(few)
        ]
    rates = rates_of(contenders)
    line = f"encode: {rates['encode']}"
    if example:
        lists = Rate(*(rate * few / COUNT for rate in rates["lists"]))
        times = rates["encode"].cpu / lists.cpu
        line += f", lists of an Example: {lists}; {times:.0f}x by processor"
    ratio = rates["encode"].wall / PUBLISHED_LISTS
    print(f"{'records/s of 512 tokens':<24}{line}")
    print(
        f"{'':<24}{ratio:.0f} times the {PUBLISHED_LISTS} of tensorflow's; target: 50"
    )


def rates_of(actions: dict[str, Callable[[], object]]) -> dict[str, Rate]:
    """Median records a second of each, after one round that counts for nothing."""
    seconds = {name: [] for name in actions}
    for _ in range(ROUNDS + 1):
        for name, action in actions.items():
            cpu, wall = time.process_time(), time.perf_counter()
            action()
            seconds[name].append(
                (time.perf_counter() - wall, time.process_time() - cpu)
            )
    return {
        name: Rate(
            *(COUNT / statistics.median(x) for x in zip(*taken[1:], strict=True))
        )
        for name, taken in seconds.items()
    }


def content(layout: Layout) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rows of four documents each, and entries that a teacher could have given."""
    random = np.random.default_rng(0)
    shape = (COUNT, layout.sequence_length)
    # Of frequencies that fall as one over the id.
    ids = layout.vocab_size ** random.random((*shape, layout.entries)) - 1
    segments = np.sort(random.integers(1, 5, shape)).astype(np.int32)
    rows = {
        "tokens": random.integers(0, layout.vocab_size, shape).astype(np.int32),
        "targets": ids[..., 3].astype(np.int32),
        "mask": np.ones(shape, bool),
        "segment_ids": segments,
        "positions": default_positions(segments),
    }
    rows["tokens"][:, 1:] = rows["targets"][:, :-1]
    # Of the best of many: gaps that fall as one over the rank.
    ranks = np.arange(1, layout.entries)
    gaps = random.exponential(2, (*shape, len(ranks))) / ranks
    logits = np.zeros(ids.shape, np.float32)
    logits[..., 1:] = -np.cumsum(gaps, axis=-1)
    mass = np.exp(logits - logits[..., :1]).sum(-1, keepdims=True)
    z = np.log(mass) + 0.1
    return rows, {
        "indices": ids.astype(np.int32),
        "logits": logits,
        "log_normalizers": z,
        "log_rests": np.log(np.exp(z) - mass),
        "entropies": z + 1,
    }


def encode(layout, rows, stored) -> None:
    """All records, a batch at a time, none kept."""
    for _ in batches(layout, rows, stored):
        pass


def encoded(layout, rows, stored) -> list[bytes]:
    """All records."""
    return [record for batch in batches(layout, rows, stored) for record in batch]


def batches(layout, rows, stored) -> Iterator[list[bytes]]:
    """All records, a batch at a time."""
    for start in range(0, COUNT, BATCH):
        cut = slice(start, start + BATCH)
        yield encode_batch(
            layout,
            indices=range(start, start + BATCH),
            rows={name: x[cut] for name, x in rows.items()},
            stored={name: x[cut] for name, x in stored.items()},
        )


def manifest(layout: Layout, shard: Shard) -> Manifest:
    """Of one shard."""
    return Manifest(layout=layout, origin=ORIGIN, shards=(shard,), code="")


def example_message() -> type | None:
    """`tf.train.Example` of two kinds of lists; None without protobuf.

    Source: tensorflow/core/example/example.proto, feature.proto.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        return None
    file = descriptor_pb2.FileDescriptorProto(
        name="x.proto", package="x", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, int, str]) -> None:
        added = file.message_type.add(name=name)
        for number, (field, label, kind, type_name) in enumerate(fields, start=1):
            made = added.field.add(name=field, number=number, label=label, type=kind)
            if type_name:
                made.type_name = type_name

    one, many = 1, 3
    message("FloatList", ("value", many, 2, ""))
    message("Int64List", ("value", many, 3, ""))
    message(
        "Feature",
        ("floats", one, 11, ".x.FloatList"),
        ("ints", one, 11, ".x.Int64List"),
    )
    message("Entry", ("key", one, 9, ""), ("value", one, 11, ".x.Feature"))
    message("Example", ("features", many, 11, ".x.Entry"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("x.Example"))


def as_lists(example: type, rows, stored, i: int) -> bytes:
    """One record as lists of Python numbers, serialised."""
    message = example()
    arrays = {**{k: rows[k][i] for k in rows}, **{k: stored[k][i] for k in stored}}
    del arrays["entropies"]
    for name, array in arrays.items():
        entry = message.features.add(key=name)
        kind = entry.value.floats if array.dtype.kind == "f" else entry.value.ints
        kind.value.extend((array.reshape(-1) * 1).tolist())  # no bools
    return message.SerializeToString()


if __name__ == "__main__":
    main()
