"""Each check of a record alone: what nothing else would have refused, and in its words.

Records are changed, and written with checksums and a manifest that agree.
"""

import dataclasses
import json

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from runner.errors import UserError
from runner.records import checks, manifest
from runner.records.codes import FARTHEST
from runner.records.format import CorruptRecord, Layout, decode, stack, with_checksum
from runner.records.layout import CHECKED
from runner.records.reader import Records
from runner.records.shards import seal, write_shard
from runner.records.verify import verify
from tests.runner.records import sets

TOP = Layout(mode="top_k", entries=5, vocab_size=300, sequence_length=16)
DRAWN = dataclasses.replace(TOP, mode="sampled")
WHOLE = dataclasses.replace(TOP, mode="full", entries=300, temperatures=())


@pytest.fixture
def top(tmp_path):
    return sets.make(tmp_path / "records", TOP)


def fault(folder, layout, change):
    """What is wrong with the third of some records once `change` was made to it."""
    made = sets.make(folder, layout)
    table = stack(made.layout, made.records).copy()
    assert checks.first_fault(layout, table, *_targets(made)) is None
    change(table[2])
    return checks.first_fault(layout, table, *_targets(made))


def _targets(made):
    return made.data["targets"], made.data["mask"]


def worse_first(record):
    record["drops"][4, 1] += 1
    record["drops"][4, 2] = record["drops"][4, 1] - 1


def turn(record):
    """The draws of a position the other way round."""
    record["ids16"][4] = np.arange(record["ids16"].shape[1])[::-1]


def raise_above(name):
    def change(record):  # 15 nats; a vocabulary of 300 has 5.7 at most
        record[f"{name}_high"][0, 4] = 0xF0

    return change


@pytest.mark.parametrize(
    ("layout", "change", "reason"),
    [
        (TOP, worse_first, "entries that are not best first"),
        (DRAWN, turn, "draws that are not sorted"),
        (
            WHOLE,
            lambda record: record["drops"].__setitem__(4, 1),
            "a token without a largest logit",
        ),
        (TOP, raise_above("log_normalizers"), "a log-normaliser of 15.* 5.704"),
        (DRAWN, raise_above("log_normalizers"), "a log-normaliser of 15.* 5.704"),
        (DRAWN, raise_above("entropies"), "a entropy of 15.* 5.704"),
    ],
)
def test_what_no_teacher_says_is_named(tmp_path, layout, change, reason):
    found = fault(tmp_path, layout, change)
    assert found is not None and found[0] == 2
    with pytest.raises(ValueError, match=reason):
        raise ValueError(found[1])


@pytest.mark.parametrize("layout", [TOP, WHOLE], ids=lambda x: x.mode)
@pytest.mark.parametrize("version", [1, 2])
def test_the_farthest_logits_are_refused_in_format_1(tmp_path, layout, version):
    layout = dataclasses.replace(layout, format=version)
    made = sets.make(tmp_path / "records", layout)
    table = stack(made.layout, made.records).copy()
    np.minimum(table["drops"], FARTHEST - 1, out=table["drops"])
    assert checks.first_fault(layout, table, *_targets(made)) is None
    table["drops"][2, 4, -1] = FARTHEST
    reason = checks.first_fault(layout, table, *_targets(made))
    assert (reason is None) == (version == 2)
    assert reason is None or (reason[0] == 2 and "32 nats below" in reason[1])


def test_an_entry_that_is_there_twice_is_refused_by_verify(top, tmp_path):
    changed = stack(top.layout, top.records)[2].copy()
    place = int(np.flatnonzero(~decode(top.layout, top.records[2]).hits)[0])
    changed["ids16"][place, 4] = changed["ids16"][place, 3]
    rewrite(tmp_path / "other", top, changed)
    with pytest.raises(UserError, match="record 2: holds an entry twice"):
        verify(tmp_path / "other")


def test_targets_that_a_record_does_not_have_are_refused_by_verify(top, tmp_path):
    changed = stack(top.layout, top.records)[2].copy()
    changed["targets"] -= 1
    rewrite(tmp_path / "other", top, changed)
    with pytest.raises(UserError, match="record 2: has 16 targets, not 15"):
        verify(tmp_path / "other")


@pytest.mark.parametrize("text", [None, "{}"])
def test_a_tokenizer_that_is_not_the_recorded_one_is_refused(top, tmp_path, text):
    copy = tmp_path / "records" / "tokenizer.json"
    copy.unlink()
    if text is not None:
        copy.write_text(text)
    with pytest.raises(UserError, match=r"its copy .* cannot be read"):
        verify(tmp_path)


def test_another_tokenizer_in_its_place_is_refused(top, tmp_path):
    other = sets.byte_vocabulary("more").tokenizer
    (tmp_path / "records" / "tokenizer.json").write_text(other.to_str())
    with pytest.raises(UserError, match="not the tokenizer it was recorded with"):
        verify(tmp_path)


def test_another_format_is_told_by_its_number(top):
    record = bytearray(top.records[3])
    record[CHECKED] = 9
    with pytest.raises(CorruptRecord, match="has format 9, its directory 2"):
        decode(top.layout, with_checksum(record))


def test_bytes_after_a_record_are_refused(top):
    record = bytearray(top.records[3] + b"\0\0")
    with pytest.raises(CorruptRecord, match="bytes, which its header does not explain"):
        decode(top.layout, with_checksum(record))


def test_a_shard_with_a_record_less_is_refused_before_it_is_read(top, tmp_path):
    first, *others = top.manifest.shards
    more = dataclasses.replace(first, count=first.count + 1)
    moved = [dataclasses.replace(x, first=x.first + 1) for x in others]
    records = resealed(tmp_path, top.manifest, [more, *moved])
    with pytest.raises(UserError, match="cannot be read: 6 of 7 records"):
        records.read([0])


def test_a_reader_that_gives_too_few_records_is_refused(top, tmp_path):
    class Short:
        def read(self, within):
            return [b""] * (len(within) - 1)

    records = Records.load(tmp_path)
    records._readers[0] = Short(), None
    with pytest.raises(UserError, match="cannot be read: 1 of 2 records"):
        records.read([0, 1])


def test_a_gap_between_shards_is_refused(top, tmp_path):
    first, second = top.manifest.shards
    with pytest.raises(UserError, match="begins with row 7, wanted 6"):
        resealed(tmp_path, top.manifest, [first, dataclasses.replace(second, first=7)])


def test_shards_with_a_gap_between_are_not_sealed(top, tmp_path):
    path = tmp_path / "records" / f"{top.manifest.shards[1].name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"first": 7}))
    with pytest.raises(UserError, match="begins with row 7, wanted 6"):
        seal(
            tmp_path / "records",
            of=2,
            layout=top.layout,
            origin=sets.ORIGIN,
            records=12,
            vocabulary=sets.VOCABULARY,
        )


def test_a_file_that_lost_a_record_on_its_way_to_the_disk_is_refused(
    top, tmp_path, monkeypatch
):
    class Lossy(ArrayRecordWriter):
        def write(self, record):
            if record != top.records[3]:
                super().write(record)

    module = "array_record.python.array_record_module"
    monkeypatch.setattr(f"{module}.ArrayRecordWriter", Lossy)
    with pytest.raises(UserError, match=r"cannot write .*5 of 6 records reached the"):
        write_shard(tmp_path / "new", 0, 2, top.records[:6], top.layout, first=0)


@pytest.mark.parametrize("name", ["hits", "targets"])
def test_totals_that_the_records_do_not_have_are_refused(top, tmp_path, name):
    first, second = top.manifest.shards
    wrong = dataclasses.replace(second, **{name: getattr(second, name) + 1})
    resealed(tmp_path, top.manifest, [first, wrong])
    with pytest.raises(UserError, match=r"holds .* hits of .* targets, .* recorded"):
        verify(tmp_path)


def resealed(folder, old, shards):
    """The same files under a manifest with other shards."""
    new = dataclasses.replace(old, shards=tuple(shards))
    manifest.write_manifest(folder / "records", new)
    return Records.load(folder)


def rewrite(folder, made, changed):
    """The same records but for the third, whose fields are `changed`."""
    records = list(made.records)
    tail = records[2][made.layout.dtype.itemsize :]
    records[2] = with_checksum(bytearray(changed.tobytes() + tail))
    sets.put(folder / "records", made.layout, records)
