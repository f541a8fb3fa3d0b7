import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from runner.errors import UserError
from runner.records import manifest, shards
from runner.records.format import Layout
from tests.runner.records import sets

LAYOUT = Layout(mode="top_k", entries=4, vocab_size=30, sequence_length=8)


@pytest.fixture
def made(tmp_path):
    return sets.make(tmp_path, LAYOUT, count=10, of=3)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_directory_holds_shards_sidecars_tokenizer_and_manifest(made, tmp_path):
    names = [f"records-0000{i}-of-00003.array_record" for i in range(3)]
    assert sorted(content(tmp_path)) == sorted(
        [*names, *(f"{name}.json" for name in names), "manifest.json", "tokenizer.json"]
    )
    assert manifest.read_manifest(tmp_path) == made.manifest
    assert [shard.first for shard in made.manifest.shards] == [0, 3, 6]
    assert made.manifest.records == 10
    assert made.manifest.targets == made.data["mask"].sum()
    found = (made.stored["indices"] == made.data["targets"][..., None]).any(-1)
    assert made.manifest.hits == (found & made.data["mask"]).sum()


def test_the_same_records_make_the_same_bytes(made, tmp_path):
    again = tmp_path / "again"
    sets.make(again, LAYOUT, count=10, of=3)
    there = {name: data for name, data in content(again).items()}
    assert there == {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
    }


def test_shards_of_rows_cover_them_once():
    for rows in (0, 1, 5, 12, 13):
        parts = [shards.shard_rows(i, of=5, rows=rows) for i in range(5)]
        assert [row for part in parts for row in part] == list(range(rows))


def test_nothing_is_sealed_until_all_shards_are_there(made, tmp_path):
    folder = tmp_path / "new"
    for number in (2, 0, 1):
        assert seal(folder, made) is None
        numbers = shards.shard_rows(number, of=3, rows=10)
        part = made.records[numbers.start : numbers.stop]
        shards.write_shard(folder, number, 3, part, made.layout, first=numbers.start)
    assert seal(folder, made) == made.manifest
    assert seal(folder, made) == made.manifest  # another process, later


def seal(folder, made, records=10, **change):
    return shards.seal(
        folder,
        of=3,
        layout=made.layout,
        origin=dataclasses.replace(sets.ORIGIN, **change),
        records=records,
        vocabulary=sets.VOCABULARY,
        code="test",
    )


def test_sealing_something_else_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="holds finished records of something else"):
        seal(tmp_path, made, teacher="another")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match="holds 10 records, wanted 11"):
        seal(tmp_path, made, records=11)


@pytest.mark.parametrize("damage", ["sidecar", "cut", "absent", "garbage", "layout"])
def test_a_shard_counts_only_with_a_sidecar_that_describes_it(made, tmp_path, damage):
    path = tmp_path / shards.shard_name(1, 3)
    beside = shards.sidecar(path)
    layout = made.layout
    match damage:
        case "sidecar":
            beside.unlink()
        case "cut":
            os.truncate(path, path.stat().st_size - 1)
        case "absent":
            path.unlink()
        case "garbage":
            beside.write_text("[]")
        case "layout":
            text = json.loads(beside.read_text()) | {"layout": "00"}
            beside.write_text(json.dumps(text))
    assert sorted(shards.finished_shards(tmp_path, 3, layout)) == [0, 2]


def test_a_flipped_bit_counts_by_size_and_not_by_digest(made, tmp_path):
    path = tmp_path / shards.shard_name(1, 3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = shards.finished_shards
    assert sorted(found(tmp_path, 3, made.layout)) == [0, 1, 2]
    assert sorted(found(tmp_path, 3, made.layout, digest=True)) == [0, 2]


@pytest.mark.parametrize("bad", ["order", "damaged"])
def test_a_record_out_of_order_is_not_written(made, tmp_path, bad):
    folder = tmp_path / "new"
    records = [made.records[0], made.records[2]]
    if bad == "damaged":
        records = [made.records[0], made.records[1][:-1]]
    with pytest.raises(ValueError, match="record of row 1"):
        shards.write_shard(folder, 0, 1, records, made.layout, first=0)
    assert content(folder) == {}


def test_a_directory_that_cannot_be_written_is_named(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/records-00000"):
        shards.write_shard(tmp_path / "file", 0, 1, made.records, made.layout, first=0)


def test_compression_is_a_choice_that_the_reader_does_not_see(tmp_path, made):
    from runner.records.reader import Records

    folder = tmp_path / "new"
    shards.write_shard(
        folder, 0, 1, made.records, made.layout, first=0, compression="zstd:3"
    )
    shards.seal(
        folder,
        of=1,
        layout=made.layout,
        origin=sets.ORIGIN,
        records=10,
        vocabulary=sets.VOCABULARY,
    )
    numbers = np.arange(10)
    assert Records.load(folder).read_bytes(numbers) == made.records


def test_a_writer_killed_leaves_nothing_that_counts(tmp_path):
    script = f"""
import os, pathlib
from runner.records import shards
from runner.records.format import Layout
from tests.runner.records import sets
folder = pathlib.Path({str(tmp_path)!r})
made = sets.make(folder / "whole", {LAYOUT!r}, count=4)
def killed():
    yield made.records[0]
    os.kill(os.getpid(), 9)
shards.write_shard(folder, 0, 1, killed(), made.layout, first=0)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=os.getcwd())
    assert run.returncode == -9
    left = [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert len(left) == 1 and left[0].endswith(".tmp")
    layout = manifest.read_manifest(tmp_path / "whole").layout
    assert shards.finished_shards(tmp_path, 1, layout) == {}
    shards.remove_temporaries(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
