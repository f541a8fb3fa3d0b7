"""Megatron's files: `write.py` wrote them with megatron-core 0.16.1."""

import dataclasses
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from runner.data import MegatronTokens
from runner.data.megatron import files as megatron_files
from runner.errors import UserError

FOLDER = Path(__file__).parent / "written"
READ = json.loads((FOLDER / "read.json").read_text())


@pytest.fixture
def written(tmp_path):
    return Path(shutil.copytree(FOLDER, tmp_path / "megatron"))


@pytest.fixture
def megatron(source, written):
    return MegatronTokens(
        files=[str(written / "plain")], tokenizer=source.tokenizer, sequence_length=4
    )


@pytest.mark.parametrize("name", READ)
def test_documents_are_those_that_megatron_reads(name):
    paths = megatron_files.paths_of(FOLDER / name)
    assert [ids.tolist() for ids in megatron_files.read(*paths)] == READ[name]


def test_ends_part_documents_and_are_not_doubled(megatron, written, cache):
    packed = megatron.load(cache=cache)
    documents = [packed.packing.document(i).tolist() for i in range(3)]
    # 9, 10 and 11 are two sequences of one document.
    assert documents == [[5, 6, 7], [8], [9, 10, 11]]
    assert packed.num_documents == 3
    every = dataclasses.replace(megatron, files=[str(written)]).load(cache=cache)
    documents = [every.packing.document(i).tolist() for i in range(every.num_documents)]
    assert documents[3:6] == [[40, 41], [42], [43]]
    assert documents[6:] == [[5, 6], [7]]
    vocabulary = packed.vocabulary
    assert packed.num_bytes == sum(
        len(vocabulary.decode(ids).encode()) for ids in ([5, 6, 7], [8], [9, 10, 11])
    )


@pytest.mark.parametrize("files", ["plain", "plain.idx", "plain.bin", "pl*"])
def test_a_prefix_either_file_and_a_glob_mean_the_same(megatron, written, cache, files):
    reference = megatron.load(cache=cache)
    other = dataclasses.replace(megatron, files=[str(written / files)])
    other.check()
    assert other.load(cache=cache).fingerprint == reference.fingerprint


def test_the_fingerprint_follows_the_ids(megatron, written, cache):
    reference = megatron.load(cache=cache).fingerprint
    path = written / "plain.bin"
    path.write_bytes(bytes([7]) + path.read_bytes()[1:])
    assert megatron.load(cache=cache).fingerprint != reference


def with_number(at, form, value):
    def changed(content):
        return (
            content[:at]
            + struct.pack(form, value)
            + content[at + struct.calcsize(form) :]
        )

    return changed


# The index of `plain`: a header of 34 bytes, 4 lengths, 4 pointers, 4 document ends.
DAMAGE = {
    "no_header": (lambda x: x[:20], "is no index of Megatron's: it has no header"),
    "other_header": (lambda x: b"x" + x[1:], "is no index of Megatron's"),
    "version": (with_number(9, "<Q", 2), "version 2 with ids of kind 4"),
    "floats": (
        with_number(17, "<B", 7),
        "version 1 with ids of kind 7; only version 1",
    ),
    "sequences": (with_number(18, "<Q", 2**60), "damaged or cut short"),
    "documents": (with_number(26, "<Q", 0), "damaged or cut short"),
    "cut": (lambda x: x[:-1], "damaged or cut short: 113 bytes for 4 sequences of 3"),
    "length": (with_number(34, "<i", -4), "its sequences do not join"),
    "pointer": (with_number(58, "<q", 17), "its sequences do not join"),
    "order": (with_number(90, "<q", 3), "its documents are not in order"),
    "last": (with_number(106, "<q", 3), "its documents are not in order"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_index_is_refused_in_one_line(megatron, written, cache, case):
    damage, message = DAMAGE[case]
    path = written / "plain.idx"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        megatron.check()
    assert len(str(error.value).splitlines()) == 1


def test_ids_that_do_not_belong_to_the_index_are_refused(megatron, written, cache):
    path = written / "plain.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(
        UserError, match=r"plain.bin is cut short, .*36 bytes, expected 40"
    ):
        megatron.check()
    for wrong, said in ((300, 300), (-1, -1)):
        path.write_bytes(np.int32(wrong).tobytes() + content[4:])
        with pytest.raises(UserError, match=f"document 0: token id {said} is outside"):
            megatron.load(cache=cache)
    path.unlink()
    with pytest.raises(UserError, match=r"cannot read .*plain.bin: No such file"):
        megatron.check()


def test_what_is_no_pair_of_files_is_named(megatron, written):
    for files, message in (
        ([str(written / "plian")], "did you mean"),
        ([str(written / "read.json")], "no NAME.idx with NAME.bin among"),
        ("plain", "must be a list of paths, got the string"),
    ):
        with pytest.raises(UserError, match=message):
            dataclasses.replace(megatron, files=files).check()
