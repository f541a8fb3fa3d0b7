"""Packed records: the same bits again, and rounded ones at a small divergence."""

import base64
import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from runner.errors import UserError
from runner.records import codes, deflated, packing, rounding
from runner.records.code_table import CodeTable
from runner.records.format import Layout, decode, encode_batch
from runner.records.layout import PACKED, ROUNDED
from runner.records.reader import Records
from runner.records.record import CorruptRecord, checksum
from runner.records.verify import verify
from tests.runner.records import sets

TOP = Layout(mode="top_k", entries=5, vocab_size=40, sequence_length=11, format=PACKED)
LAYOUTS = [
    TOP,
    dataclasses.replace(TOP, entries=1),
    dataclasses.replace(TOP, temperatures=()),
    dataclasses.replace(TOP, temperatures=(0.5, 1.0, 8.0), partial=True),
    dataclasses.replace(TOP, sequence_length=1),
    dataclasses.replace(TOP, entries=300, vocab_size=70_000),
    dataclasses.replace(TOP, entries=7, vocab_size=1 << 20),
]


def some(layout, count=3):
    """Rows, and entries of every size: ties, far ones, ones that are impossible."""
    random = np.random.default_rng(0)
    shape = (count, layout.sequence_length, layout.entries)
    words = (*shape[:2], len(layout.temperatures))
    step = layout.vocab_size // layout.entries
    ids = random.permuted(np.broadcast_to(np.arange(layout.entries), shape), axis=-1)
    ids = ids * step + random.integers(step, size=(*shape[:2], 1))
    logits = -np.sort(random.exponential(4, shape) ** 2)
    logits[0, :, 2:] = logits[0, :, 1:2]
    logits[1, :, 3:] = -np.inf
    stored = {
        "indices": np.ascontiguousarray(ids, np.int32),
        "logits": logits,
        "log_normalizers": random.uniform(0, 15, words),
        "log_rests": random.uniform(-119, 9, words),
        "known": random.random(shape[:2]) < 0.5,
    }
    data = sets.rows(
        random, count=count, length=layout.sequence_length, vocab=layout.vocab_size
    )
    data["tokens"][:, 1:] = stored["indices"][:, :-1, 0]
    return data, stored


def records_of(layout, data, stored):
    numbers = range(len(data["tokens"]))
    return encode_batch(layout, indices=numbers, rows=data, stored=stored)


def likely(length=128, vocab=4096):
    """What a teacher says of tokens whose frequencies fall as one over their rank."""
    random = np.random.default_rng(1)
    layout = Layout(
        mode="top_k", entries=64, vocab_size=vocab, sequence_length=length, format=2
    )
    logits = random.normal(0, 2.5, (1, length, vocab)) - np.log(np.arange(vocab) + 2)
    data = sets.rows(random, count=1, length=length, vocab=vocab)
    return layout, data, sets.chosen(random, layout, logits.astype(np.float32))


def size(layout, record):
    return len(packing.pack(layout, CodeTable.of(layout, [record]), [record])[0])


def test_every_record_comes_back_bit_for_bit():
    for packed in LAYOUTS:
        for layout in (packed, dataclasses.replace(packed, format=ROUNDED)):
            records = records_of(layout, *some(layout))
            stored = CodeTable.of(layout, records[:2]).to_bytes()
            table = CodeTable.from_bytes(layout, stored)
            for record, stored in zip(
                records, packing.pack(layout, table, records), strict=True
            ):
                assert packing.unpack(layout, table, stored) == record, layout


def test_packed_records_of_earlier_formats_are_read():
    # Written by the code of a40cb4d and of 00a03fe, with the digests of the records.
    for old in json.loads(Path(__file__).with_name("earlier.json").read_text()):
        layout, stored = Layout(**old["layout"]), base64.b64decode(old["stored"])
        if layout.tabled:
            table = CodeTable.from_bytes(layout, base64.b64decode(old["table"]))
            record = packing.unpack(layout, table, stored)
        else:
            record = deflated.unpack(layout, stored)
        assert hashlib.sha256(record).hexdigest() == old["sha256"], layout
        decode(layout, record)


def test_a_packed_record_holds_the_numbers_of_a_plain_one_in_fewer_bytes():
    plain, data, stored = likely()
    (one,) = records_of(plain, data, stored)
    packed = dataclasses.replace(plain, format=PACKED)
    (other,) = records_of(packed, data, stored)
    for name in ("drops", "ids16", "hits", "log_rests_low", "log_normalizers_low"):
        ours, theirs = decode(packed, other).fields, decode(plain, one).fields
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert size(packed, other) < 170 * 128
    rounded = dataclasses.replace(plain, format=ROUNDED)
    (third,) = records_of(rounded, data, stored)
    assert size(rounded, third) < 130 * 128


def test_rounding_keeps_order_and_the_divergence_small():
    plain, data, stored = likely()
    (one,) = records_of(plain, data, stored)
    rounded = dataclasses.replace(plain, format=ROUNDED)
    (other,) = records_of(rounded, data, stored)

    def probabilities(layout, record):
        record = decode(layout, record)
        logits = np.pad(np.float64(record.logits), [(0, 0), (1, 0)])
        mass = np.exp(np.concatenate([logits, record.log_rests], -1))
        sums = mass.sum(-1, keepdims=True)
        np.testing.assert_allclose(np.log(sums), record.log_normalizers, atol=4e-4)
        return mass / sums

    p, q = probabilities(plain, one), probabilities(rounded, other)
    divergence = (p * np.log(p / q)).sum(-1)
    assert 1e-7 < divergence.mean() < 2e-6

    every = np.arange(1 << 16)[: codes.RESERVED]
    places = rounding.places(every, ROUNDED)
    np.testing.assert_array_equal(places, np.sort(places))
    again = rounding.places(rounding.values(places, ROUNDED), ROUNDED)
    np.testing.assert_array_equal(again, places)
    impossible = rounding.values(places, ROUNDED) == codes.FARTHEST
    np.testing.assert_array_equal(impossible, every == codes.FARTHEST)


def test_packed_files_are_read_in_any_order_and_verified(tmp_path):
    made = sets.make(tmp_path, dataclasses.replace(TOP, vocab_size=257))
    numbers = np.random.default_rng(0).permutation(len(made.records))
    read = Records.load(tmp_path).read_bytes(numbers)
    assert read == [made.records[i] for i in numbers]
    assert verify(tmp_path) == made.manifest


def test_damaged_bytes_are_refused(monkeypatch, tmp_path):
    data, stored = some(TOP)
    record = records_of(TOP, data, stored)[0]
    table = CodeTable.of(TOP, [record])
    (whole,) = packing.pack(TOP, table, [record])
    for place in range(0, len(whole), 3):
        for damaged in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :],
        ):
            with pytest.raises(CorruptRecord):
                packing.unpack(TOP, table, damaged)
            # The same, as a faulty writer would vouch for it.
            vouched = damaged[:4] + checksum(damaged[8:]) + damaged[8:]
            with contextlib.suppress(CorruptRecord):
                packing.unpack(TOP, table, vouched)

    whole = table.to_bytes()
    for damaged in (b"", whole[:-1], whole + b"1", whole[:8] + bytes(len(whole) - 8)):
        with pytest.raises(CorruptRecord, match="its table of codes is damaged"):
            CodeTable.from_bytes(TOP, damaged)

    sets.make(tmp_path, dataclasses.replace(TOP, vocab_size=257))
    records = Records.load(tmp_path)
    monkeypatch.setattr(
        "runner.records.reader.unpack",
        lambda layout, table, _: packing.unpack(layout, table, b"short"),
    )
    with pytest.raises(UserError, match="record 3: it is not a teacher record"):
        records.read([3])


def test_best_entries_alone_are_packed():
    with pytest.raises(UserError, match="best entries alone are packed, not sampled"):
        dataclasses.replace(TOP, mode="sampled")
