import json
import subprocess
import sys

import numpy as np
import pytest

from runner.data import TokenRecords
from runner.data.text.packed_text import PackedText
from runner.data.text.record_files import manifest_path, read, write_token_records
from runner.errors import UserError


@pytest.fixture
def vocabulary(source, cache):
    return source.tokenizer.load(cache=cache)


@pytest.fixture
def documents():
    random = np.random.default_rng(0)
    return [random.integers(1, 300, size) for size in random.integers(1, 400, 3000)]


@pytest.fixture
def written(tmp_path, documents, vocabulary):
    path = tmp_path / "tokens.arrayrecord"
    write_token_records(path, documents, vocabulary=vocabulary)
    return path


@pytest.fixture
def records(written, source):
    return TokenRecords(
        files=[str(written)], tokenizer=source.tokenizer, sequence_length=16
    )


def test_what_is_written_is_read(written, documents, vocabulary):
    for wrote, ids in zip(documents, read(written, vocabulary), strict=True):
        np.testing.assert_array_equal(wrote, ids)
    manifest = json.loads(manifest_path(written).read_text())
    assert manifest["records"] == 3000
    assert manifest["tokens"] == sum(map(len, documents))
    assert manifest["vocabulary"] == vocabulary.digest
    assert sorted(p.name for p in written.parent.glob("tokens*")) == [
        "tokens.arrayrecord",
        "tokens.arrayrecord.json",
    ]


def test_records_are_packed_like_text(source, cache, tmp_path, vocabulary):
    text = source.load(cache=cache)
    path = tmp_path / "text.arrayrecord"
    ids = [ids for ids in vocabulary.encode_all(text.texts()) if len(ids)]
    write_token_records(path, ids, vocabulary=vocabulary)
    packed = TokenRecords(
        files=[str(path)], tokenizer=source.tokenizer, sequence_length=16
    ).load(cache=cache)
    for name, array in text.rows(np.arange(len(text))).items():
        np.testing.assert_array_equal(packed.rows(np.arange(len(text)))[name], array)
    assert isinstance(packed, PackedText)
    assert "".join(packed.texts()) == "".join(text.texts())
    assert packed.num_bytes == text.num_bytes


def test_a_directory_is_read_without_its_manifests(records, written, cache, source):
    folder = written.parent / "all"
    folder.mkdir()
    for path in (written, manifest_path(written)):
        path.rename(folder / path.name)
    source = TokenRecords(files=[str(folder)], tokenizer=source.tokenizer)
    source.check()
    assert source.load(cache=cache).describe()["documents"] == 3000


def test_the_fingerprint_follows_the_content(records, written, cache, vocabulary):
    reference = records.load(cache=cache).fingerprint
    assert records.load(cache=cache).fingerprint == reference
    write_token_records(written, [np.array([1, 2])], vocabulary=vocabulary)
    assert records.load(cache=cache).fingerprint != reference


@pytest.mark.parametrize("at", [100, 0.5, -60])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_file_is_refused_by_its_manifest(records, written, cache, damage, at):
    break_file(written, damage, at)
    with pytest.raises(UserError, match=r"is not the file that .* describes"):
        records.load(cache=cache)


@pytest.mark.parametrize(
    ("damage", "at"),
    [("flip", 100), ("flip", 0.5), ("cut", 100), ("cut", 0.5), ("cut", -60)],
)
def test_without_a_manifest_a_damaged_file_is_refused_still(
    records, written, cache, damage, at
):
    manifest_path(written).unlink()
    break_file(written, damage, at)
    with pytest.raises(UserError) as error:
        records.load(cache=cache)
    assert len(str(error.value).splitlines()) <= 3


def break_file(path, damage, at):
    content = bytearray(path.read_bytes())
    at = int(at * len(content)) if isinstance(at, float) else at % len(content)
    if damage == "cut":
        del content[at:]
    else:
        content[at] ^= 0xFF
    path.write_bytes(content)


def test_an_empty_file_is_refused(records, written, cache):
    manifest_path(written).unlink()
    written.write_bytes(b"")
    with pytest.raises(UserError, match=r"arrayrecord holds no records: it is empty"):
        records.load(cache=cache)


def test_a_file_without_records_is_refused(tmp_path, vocabulary):
    write_token_records(tmp_path / "a", [], vocabulary=vocabulary)
    with pytest.raises(UserError, match="holds no records"):
        list(read(tmp_path / "a", vocabulary))


def test_tokens_of_another_vocabulary_are_refused(records, written, cache):
    path = manifest_path(written)
    manifest = json.loads(path.read_text())
    other = {"vocabulary": "0" * 32, "identity": "0" * 32}
    path.write_text(json.dumps({**manifest, **other}))
    with pytest.raises(UserError, match="holds tokens of another vocabulary"):
        records.load(cache=cache)
    path.write_text("{}")
    with pytest.raises(UserError, match="is not a manifest"):
        records.load(cache=cache)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1, 300], "token id 300 is outside of a vocabulary of 300 tokens"),
        ([-1], "token id 4294967295 is outside"),
        ([], "0 bytes are not a document"),
        ([5, 0, 5], "holds the end-of-document id 0"),
    ],
)
def test_what_is_no_document_is_neither_written_nor_read(
    tmp_path, vocabulary, record, message
):
    from array_record.python.array_record_module import ArrayRecordWriter

    bad = np.array(record, np.int64)
    with pytest.raises(UserError, match=f"document 1: {message}"):
        write_token_records(tmp_path / "a", [np.array([1]), bad], vocabulary=vocabulary)
    assert not list(tmp_path.glob("a*"))
    writer = ArrayRecordWriter(str(tmp_path / "b"), "group_size:1")
    for ids in (np.array([1]), bad):
        writer.write(ids.astype("<u4").tobytes())
    writer.close()
    with pytest.raises(UserError, match=f"record 1: {message}"):
        list(read(tmp_path / "b", vocabulary))


def test_bytes_that_are_no_ids_are_refused(tmp_path, vocabulary):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(tmp_path / "a"), "group_size:1")
    writer.write(b"abcde")
    writer.close()
    with pytest.raises(UserError, match="record 0: 5 bytes are not a document"):
        list(read(tmp_path / "a", vocabulary))


def test_a_writer_killed_leaves_no_file_under_the_name(tmp_path, source, cache, folder):
    source.tokenizer.load(cache=cache)
    script = f"""
import os, pathlib
import numpy as np
from runner.data import ByteBPE, TextFiles
from runner.data.text.record_files import write_token_records
documents = TextFiles(files=[{str(folder)!r}])
vocabulary = ByteBPE(documents=documents, vocab_size=300).load(cache={cache!r})
def killed():
    yield np.array([1, 2])
    os.kill(os.getpid(), 9)
path = pathlib.Path({str(tmp_path / "a")!r})
write_token_records(path, killed(), vocabulary=vocabulary)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert not (tmp_path / "a").exists()
