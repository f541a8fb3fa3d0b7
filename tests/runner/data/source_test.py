import dataclasses
from pathlib import Path

import numpy as np
import pytest

from runner.data import (
    ByteBPE,
    Document,
    Documents,
    Part,
    TextFiles,
    TokenizedText,
)
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError


def test_the_targets_are_the_documents_with_their_ends(source, folder, cache):
    dataset = source.load(cache=cache)
    rows = [dataset[i] for i in range(len(dataset))]
    targets = np.concatenate([row["targets"][row["mask"]] for row in rows])
    texts = [path.read_bytes().decode() for path in sorted(folder.iterdir())]
    wanted = [
        target
        for text in texts
        if text
        for target in [*dataset.vocabulary.encode(text), 0]
    ]
    assert targets.tolist() == wanted


def test_bytes_of_all_targets_are_the_bytes_of_the_text(source, folder, cache):
    dataset = source.load(cache=cache)
    rows = dataset.rows(np.arange(len(dataset)))
    counted = dataset.vocabulary.token_bytes[rows["targets"]][rows["mask"]].sum()
    total = sum(path.stat().st_size for path in folder.iterdir())
    assert counted == dataset.num_bytes == total
    assert "".join(dataset.texts()).encode() == b"".join(
        path.read_bytes() for path in sorted(folder.iterdir())
    )


def test_one_row_is_what_rows_gives(source, cache):
    dataset = source.load(cache=cache)
    for name, array in dataset.rows(np.array([1])).items():
        assert array.shape == (1, 16)
        np.testing.assert_array_equal(dataset[1][name], array[0])


def test_a_second_load_reads_the_cache(source, cache, monkeypatch):
    first = source.load(cache=cache)
    monkeypatch.setattr(Vocabulary, "encode_all", None)
    second = source.load(cache=cache)
    np.testing.assert_array_equal(first.packing.tokens, second.packing.tokens)
    assert first.packing.tokens.dtype == np.uint16
    assert first.fingerprint == second.fingerprint


def test_a_damaged_cache_is_made_again(source, cache):
    first = source.load(cache=cache)
    fingerprint, tokens = first.fingerprint, np.array(first.packing.tokens)
    del first
    (file,) = Path(cache, "tokens").iterdir()
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    second = source.load(cache=cache)
    assert second.fingerprint == fingerprint
    np.testing.assert_array_equal(second.packing.tokens, tokens)


def test_the_fingerprint_follows_everything_that_changes_a_row(
    source, folder, tmp_path, cache
):
    def fingerprint(**changes):
        return dataclasses.replace(source, **changes).load(cache=cache).fingerprint

    reference = fingerprint()
    documents = TextFiles(files=[str(folder)])
    larger = ByteBPE(documents=documents, vocab_size=301)
    fewer = TextFiles(files=[str(folder / "[abc].txt")])
    found = [
        reference,
        fingerprint(sequence_length=17),
        fingerprint(tokenizer=larger),
        fingerprint(documents=fewer, tokenizer=source.tokenizer),
    ]
    (folder / "a.txt").rename(folder / "a2.txt")
    found.append(fingerprint())
    (folder / "a2.txt").rename(folder / "a.txt")
    assert fingerprint() == reference
    text = (folder / "a.txt").read_text()
    (folder / "a.txt").write_text(text.replace("cat", "cow", 1))
    found.append(fingerprint())
    assert len(set(found)) == 6


def test_the_description_holds_what_a_reader_compares(source, cache):
    dataset = source.load(cache=cache)
    described = dataset.describe()
    assert described["documents"] == 4  # the empty file is none
    assert described["tokens"] == len(dataset.packing.tokens) + 4
    assert described["rows"] == len(dataset) == -(-described["tokens"] // 16)
    assert described["bytes"] == dataset.num_bytes
    assert described["fingerprint"] == dataset.fingerprint
    assert described["vocabulary"] == {
        "size": 300,
        "digest": dataset.vocabulary.digest,
    }


def test_documents_without_any_text_are_refused(source, tmp_path, cache):
    (tmp_path / "e.txt").touch()
    empty = TextFiles(files=[str(tmp_path / "e.txt")])
    with pytest.raises(UserError, match="holds no tokens at all"):
        dataclasses.replace(source, documents=empty).load(cache=cache)


def test_documents_that_change_under_the_reader_are_refused(source, cache):
    class Changing(Documents):
        """Another text each time."""

        def __init__(self):
            self.read = 0

        def check(self):
            pass

        def __iter__(self):
            self.read += 1
            yield Document("a", f"text {self.read}")

    with pytest.raises(UserError, match="changed while they were read"):
        dataclasses.replace(source, documents=Changing()).load(cache=cache)
    assert not list(Path(cache, "tokens").iterdir())


def test_a_length_below_one_is_refused(source):
    with pytest.raises(UserError, match="at least 1, got 0"):
        dataclasses.replace(source, sequence_length=0)


def test_check_reaches_documents_and_tokenizer(source, tmp_path):
    missing = TextFiles(files=[str(tmp_path / "none")])
    tokenizer = ByteBPE(documents=missing)
    for broken in (
        TokenizedText(documents=missing, tokenizer=source.tokenizer),
        TokenizedText(documents=source.documents, tokenizer=tokenizer),
    ):
        with pytest.raises(UserError, match="no such file"):
            broken.check()
    source.check()


def test_a_part_is_some_of_the_rows_spread_evenly(source, cache):
    whole = source.load(cache=cache)
    part = Part(data=source, num_rows=3).load(cache=cache)
    chosen = [0, len(whole) // 3, 2 * len(whole) // 3]
    assert len(part) == 3
    for name, array in part.rows(np.arange(3)).items():
        np.testing.assert_array_equal(array, whole.rows(np.array(chosen))[name])
    assert part.fingerprint != whole.fingerprint
    assert part.fingerprint == Part(source, 3).load(cache=cache).fingerprint
    again = Part(data=Part(data=source, num_rows=3), num_rows=1).load(cache=cache)
    np.testing.assert_array_equal(again[0]["tokens"], whole[0]["tokens"])


def test_more_rows_than_there_are_are_refused(source, cache):
    with pytest.raises(UserError, match=r"num_rows is 100000, the data has \d+ rows"):
        Part(data=source, num_rows=100_000).load(cache=cache)
    with pytest.raises(UserError, match="num_rows must be at least 1, got 0"):
        Part(data=source, num_rows=0)
