"""Five hundred faults, none of which may pass; a hundred clean sets, all of which must.

What a disk may damage is damaged on the disk. What only a wrong program writes (records
swapped, shifted, repeated ...) is written with checksums and a manifest that agree, so
that nothing but the content can give it away.
"""

import dataclasses
import os
import re

import numpy as np
import pytest

from runner.errors import UserError
from runner.records import shards
from runner.records.codes import RESERVED, high_bits
from runner.records.format import Layout, decode, encode_batch, with_checksum
from runner.records.reader import Records
from runner.records.verify import verify
from tests.runner.records import sets

COUNT, EACH = 12, 34
LAYOUTS = [
    Layout(mode="top_k", entries=6, vocab_size=300, sequence_length=24),
    Layout(
        mode="top_k",
        entries=5,
        vocab_size=257,
        sequence_length=19,
        temperatures=(1.0, 4.0),
    ),
    Layout(mode="sampled", entries=12, vocab_size=300, sequence_length=24),
    Layout(mode="full", entries=90, vocab_size=90, sequence_length=9, temperatures=()),
]
WIDE = Layout(mode="top_k", entries=5, vocab_size=65_700, sequence_length=5)


def flip(folder, made, random):
    """One bit of a shard."""
    path = a_shard(folder, random)
    data = bytearray(path.read_bytes())
    data[random.integers(len(data))] ^= 1 << int(random.integers(8))
    path.write_bytes(data)
    return "/records/records-.*is altered"


def flip_in_record(folder, made, random):
    """One bit of a record, in a file whose digest agrees."""
    records = list(made.records)
    number = int(random.integers(COUNT))
    data = bytearray(records[number])
    data[random.integers(len(data))] ^= 1 << int(random.integers(8))
    records[number] = bytes(data)
    rewrite(folder, made, records)
    return f"record {number}: .*(checksum does not agree|is not a teacher record)"


def truncate(folder, made, random):
    path = a_shard(folder, random)
    path.write_bytes(path.read_bytes()[: int(random.integers(path.stat().st_size))])
    return "cut short"


def lose_shard(folder, made, random):
    a_shard(folder, random).unlink()
    return "is missing"


def lose_record(folder, made, random):
    """A file with a record less, of the same size: the format pads it."""
    number = int(random.integers(1, COUNT))
    records = made.records[:number] + made.records[number + 1 :]
    rewrite(folder, made, records)
    return "is damaged and cannot be read|is that of row|begins with row"


def repeat(folder, made, random):
    number, other = two(random)
    records = list(made.records)
    records[number] = records[other]
    rewrite(folder, made, records)
    return f"record {number}: is that of row {other}, which is there twice"


def swap(folder, made, random):
    number, other = sorted(two(random))
    records = list(made.records)
    records[number], records[other] = records[other], records[number]
    rewrite(folder, made, records)
    return f"record {number}: is that of row {other}: the two are swapped"


def shift_records(folder, made, random):
    """Every record from some row on stands one place late."""
    number = int(random.integers(1, COUNT - 2))
    records = made.records[:number] + made.records[number - 1 : -1]
    rewrite(folder, made, records)
    return f"record {number}: is that of row {number - 1}"


BITS = ("low", "high")


def shift_entries(folder, made, random):
    """Entries of one record belong to the positions before; hits are the right ones."""
    hit = [bool(decode(made.layout, record).hits.any()) for record in made.records]
    number = int(random.choice(np.flatnonzero(hit)))
    changed = fields(made, number)
    by = int(random.choice([1, -1]))
    for name in ("ids16", "ids4", "drops", "log_normalizers_low"):
        if name in (changed.dtype.names or ()):
            axis = -1 if "log" in name else 0
            changed[name] = np.roll(changed[name], by, axis)
    if "log_normalizers_high" in (changed.dtype.names or ()):
        words = [f"{x}_{bits}" for x in ("log_rests", "entropies") for bits in BITS]
        for name in ("log_normalizers_high", *words):
            if name in (changed.dtype.names or ()):
                changed[name] = np.roll(changed[name], by, -1)
    replace(folder, made, number, changed)
    return f"record {number}: its entries hit .*next tokens"


def raise_mass(folder, made, random):
    number = int(random.integers(COUNT))
    changed = fields(made, number)
    place = int(random.integers(made.layout.sequence_length))
    if made.layout.mode == "sampled":
        changed["entropies_low"][0, place] = changed["entropies_high"][0, place] = 0
        changed["log_normalizers_high"][0, place] |= 0x10
        wanted = "more than 1 of mass"
    else:
        changed["log_normalizers_low"][0, place] = 0
        changed["log_normalizers_high"][0, place] = 0
        changed["drops"][place, 0] = random.integers(2048)
        changed["drops"][place] = np.sort(changed["drops"][place])
        wanted = "have a mass of"
    replace(folder, made, number, changed)
    return f"record {number}: .*{wanted}"


def leave_vocabulary(folder, made, random):
    number = int(random.integers(COUNT))
    changed = fields(made, number)
    layout = made.layout
    ids = np.array(decode(layout, made.records[number]).ids)
    place = int(random.integers(layout.sequence_length))
    ids[place, -1] = random.integers(layout.vocab_size, 2**20 if layout.wide else 2**16)
    changed["ids16"] = ids & 0xFFFF
    if layout.wide:
        changed["ids4"] = high_bits(ids)
    replace(folder, made, number, changed)
    return f"record {number}: holds id {ids[place, -1]}, outside of a vocabulary"


def write_reserved(folder, made, random):
    number = int(random.integers(COUNT))
    changed = fields(made, number)
    place = int(random.integers(made.layout.sequence_length))
    changed["drops"][place, -1] = RESERVED
    replace(folder, made, number, changed)
    return f"record {number}: holds a logit that is not finite"


def other_tokens(folder, made, random):
    """Tokens of one record are those of the row shifted by one; the binding is not."""
    number = int(random.integers(COUNT))
    changed = fields(made, number)
    changed["tokens16"] = np.roll(changed["tokens16"], 1)
    replace(folder, made, number, changed)
    return f"record {number}: is not of its own tokens"


def shift_tokens(folder, made, random):
    """The teacher read each row one token late, and was recorded as such."""
    by = int(random.choice([1, -1]))
    late = made.data | {"tokens": np.roll(made.data["tokens"], by, -1)}
    records = encode_batch(
        made.layout, indices=range(COUNT), rows=late, stored=made.stored
    )
    rewrite(folder, made, records)
    return "record 0: is not of this row of data: its tokens are .* shifted by one"


def other_teacher(folder, made, random):
    """A shard of another teacher's records of the same rows, of the same size."""
    other = dataclasses.replace(sets.ORIGIN, weights="0" * 32)
    theirs = sets.make(folder.parent / "theirs", made.layout, origin=other)
    assert theirs.manifest is not None
    number = int(random.integers(2))
    path = a_shard(folder.parent / "theirs", random, number)
    (folder / path.name).write_bytes(path.read_bytes())
    reseal(folder, made, made.manifest)
    return "record .*: it belongs to other records: another teacher"


KINDS = {
    flip: LAYOUTS,
    flip_in_record: LAYOUTS,
    truncate: LAYOUTS,
    lose_shard: LAYOUTS,
    lose_record: LAYOUTS,
    repeat: LAYOUTS,
    swap: LAYOUTS,
    shift_records: LAYOUTS,
    shift_entries: [*LAYOUTS[:3], WIDE],
    raise_mass: [*LAYOUTS[:3], WIDE],
    leave_vocabulary: [*LAYOUTS[:3], WIDE],
    write_reserved: [*LAYOUTS[:2], LAYOUTS[3], WIDE],
    other_tokens: LAYOUTS,
    shift_tokens: LAYOUTS,
    other_teacher: LAYOUTS,
}
VERIFIED = {flip, other_tokens}  # what is never read cannot be refused when joining
JOINED = {shift_tokens}  # what agrees with itself needs the data to be refused


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_there_are_five_hundred_faults():
    assert len(KINDS) >= 12
    assert len(KINDS) * EACH >= 500


@pytest.mark.parametrize("inject", KINDS, ids=lambda kind: kind.__name__)
def test_every_fault_is_refused_for_its_reason(inject, tmp_path):
    layouts = KINDS[inject]
    for number in range(EACH):
        random = np.random.default_rng([number, list(KINDS).index(inject)])
        folder = tmp_path / str(number) / "records"
        made = sets.make(folder, layouts[number % len(layouts)], seed=number % 8)
        message = inject(folder, made, random)
        if inject not in JOINED:
            refused(message, lambda: verify(folder))  # noqa: B023 - called at once
        if inject not in VERIFIED:
            refused(message, lambda: join_all(folder, made))  # noqa: B023


def refused(message, act):
    with pytest.raises(UserError) as error:
        act()
    text = str(error.value)
    assert re.search(message, text), f"{text!r} is not {message!r}"
    assert "/records" in text and len(text.splitlines()) <= 3


def test_a_hundred_clean_sets_pass(tmp_path):
    for number in range(100):
        random = np.random.default_rng(number)
        layout = clean_layout(random, wide=number % 20 == 0)
        made = sets.make(
            tmp_path / str(number),
            layout,
            count=int(random.integers(1, 9)),
            of=int(random.integers(1, 4)),
            seed=number,
        )
        assert verify(tmp_path / str(number)) == made.manifest
        join_all(tmp_path / str(number), made)


def clean_layout(random, *, wide):
    vocab = 65_600 if wide else int(random.choice([9, 64, 300, 77]))
    mode = random.choice(["top_k", "sampled", "full"])
    temperatures = (0.3, 1.0, 2.0, 8.0)[: random.integers(1, 5)]
    return Layout(
        mode=str(mode),
        entries=vocab if mode == "full" else int(random.integers(1, 10)),
        vocab_size=vocab,
        sequence_length=2 if wide else int(random.integers(1, 12)),
        temperatures=() if mode == "full" else temperatures,
    )


def join_all(folder, made):
    records = Records.load(folder)
    numbers = np.arange(len(made.data["tokens"]))
    return records.teacher_arrays(numbers, made.data)


def a_shard(folder, random, number=None):
    number = int(random.integers(2)) if number is None else number
    return folder / shards.shard_name(number, 2)


def two(random):
    return [int(i) for i in random.choice(COUNT, 2, replace=False)]


def fields(made, number):
    """A copy to change of a record's fields."""
    return np.frombuffer(made.records[number], made.layout.dtype, 1)[0].copy()


def replace(folder, made, number, changed):
    tail = made.records[number][made.layout.dtype.itemsize :]
    records = list(made.records)
    records[number] = with_checksum(bytearray(changed.tobytes() + tail))
    rewrite(folder, made, records)


def rewrite(folder, made, records):
    """Write files as a program does that checks nothing; everything else agrees."""
    from array_record.python.array_record_module import ArrayRecordWriter

    for number in range(2):
        path = folder / shards.shard_name(number, 2)
        writer = ArrayRecordWriter(str(path), f"group_size:1,{shards.COMPRESSION}")
        for i in shards.shard_rows(number, of=2, rows=len(records)):
            writer.write(records[i])
        writer.close()
    reseal(folder, made, made.manifest)


def reseal(folder, made, manifest):
    """A manifest that agrees with the sizes and digests of the files there are."""
    from runner.data.text.record_files import sha256_of
    from runner.records.manifest import write_manifest

    there = []
    for shard in manifest.shards:
        path = folder / shard.name
        there.append(
            dataclasses.replace(
                shard, bytes=path.stat().st_size, sha256=sha256_of(path)
            )
        )
    write_manifest(folder, dataclasses.replace(manifest, shards=tuple(there)))


def test_a_fault_of_each_kind_needs_its_own_check(tmp_path):
    made = sets.make(tmp_path / "records", LAYOUTS[0])
    again = encode_batch(
        made.layout, indices=range(COUNT), rows=made.data, stored=made.stored
    )
    rewrite(tmp_path / "records", made, again)
    assert verify(tmp_path).records == COUNT  # a rewrite alone is no fault
