import concurrent.futures
import dataclasses
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from runner.data.text.document_ends import DocumentEnds
from runner.errors import UserError
from runner.records import manifest
from runner.records.codes import join_ids, logits
from runner.records.format import Layout
from runner.records.reader import Records
from tests.runner.records import sets

TOP = Layout(
    mode="top_k",
    entries=5,
    vocab_size=300,
    sequence_length=16,
    temperatures=(1.0, 2.0),
)
LAYOUTS = {
    "top_k": TOP,
    "sampled": dataclasses.replace(TOP, mode="sampled"),
    "full": dataclasses.replace(TOP, mode="full", entries=300, temperatures=()),
    "wide": dataclasses.replace(TOP, vocab_size=65_600, sequence_length=4),
}


@pytest.fixture(params=LAYOUTS)
def made(request, tmp_path):
    return sets.make(tmp_path / "records", LAYOUTS[request.param])


@pytest.fixture
def top(tmp_path):
    return sets.make(tmp_path / "records", TOP)


def rows(made, numbers):
    return {name: x[numbers] for name, x in made.data.items()}


def test_rows_are_joined_to_what_the_teacher_said(made, tmp_path):
    numbers = np.array([7, 0, 11, 3, 7])
    joined = Records.load(tmp_path).teacher_arrays(numbers, rows(made, numbers))
    said = {name: x[numbers] for name, x in made.stored.items()}
    words = {"log_normalizers", "log_rests", "entropies"}
    names = {"ids16", "ids4", "drops"} | words
    absent = {
        "top_k": {"entropies"},
        "sampled": {"drops", "log_rests"},
        "full": {"ids16"} | words,
    }[made.layout.mode]
    absent |= set() if made.layout.wide and made.layout.mode != "full" else {"ids4"}
    assert set(joined) == {f"teacher/{name}" for name in names - absent}
    if made.layout.mode != "full":
        found = join_ids(joined["teacher/ids16"], joined.get("teacher/ids4"))
        wanted = said["indices"]
        if made.layout.mode == "sampled":
            wanted = np.sort(wanted, -1)
        np.testing.assert_array_equal(found, wanted)
    if "teacher/drops" in joined:
        below = said["logits"].max(-1, keepdims=True) - said["logits"]
        below = below if made.layout.mode == "full" else below[..., 1:]
        near = below < 16
        read = -logits(joined["teacher/drops"])
        np.testing.assert_allclose(read[near], below[near], atol=2.5e-4)
        np.testing.assert_allclose(read[~near], below[~near], rtol=2.5e-4)
    for name in words - absent:
        assert joined[f"teacher/{name}"].dtype == np.float32
        near = 4e-6 if name == "log_rests" else 1e-6
        np.testing.assert_allclose(joined[f"teacher/{name}"], said[name], atol=near)


def test_records_are_read_by_number(made, tmp_path):
    for record, number in zip(Records.load(tmp_path).read([5, 2]), [5, 2], strict=True):
        assert record.index == number
        for name, values in made.data.items():
            np.testing.assert_array_equal(record.row[name], values[number])


def test_threads_share_a_reader_and_processes_open_their_own(top, tmp_path):
    records = Records.load(tmp_path)
    orders = [np.random.default_rng(i).permutation(12) for i in range(16)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for order, found in zip(
            orders, pool.map(records.read_bytes, orders), strict=True
        ):
            assert found == [top.records[i] for i in order]
    assert pickle.loads(pickle.dumps(records)).read_bytes(orders[0])


def test_other_data_than_the_recorded_is_refused(top, tmp_path):
    records, numbers = Records.load(tmp_path), np.array([4, 6])
    shifted = rows(top, numbers)
    shifted["tokens"] = np.roll(shifted["tokens"], 1, -1)
    refused(records, numbers, shifted, "record 4: .*shifted by one")
    for name, message in [
        ("tokens", r"token \d+ at position 9, wanted \d+"),
        ("segment_ids", r"its segment ids have \d+ at position 9, wanted \d+"),
        ("positions", r"its positions have \d+ at position 9, wanted \d+"),
    ]:
        other = {name: x.copy() for name, x in rows(top, numbers).items()}
        other[name][1, 9] += 1
        refused(records, numbers, other, f"record 6: is not of this row.* {message}")
    refused(records, [4, 12], rows(top, numbers), "no record of row 12: .* 0 to 11")


def test_targets_of_other_data_are_refused_by_hits(top, tmp_path):
    records, numbers = Records.load(tmp_path), np.arange(12)
    data = rows(top, numbers)
    data["targets"] = np.roll(data["targets"], 1, -1)
    refused(records, numbers, data, "record 0: its entries hit")


def refused(records, numbers, data, message):
    with pytest.raises(UserError, match=message) as error:
        records.teacher_arrays(numbers, data)
    assert len(str(error.value).splitlines()) <= 3
    assert str(records.directory) in str(error.value)


def test_a_manifest_says_what_losses_may_ask(top):
    assert top.layout.mode == "top_k" and top.layout.temperatures == (1.0, 2.0)


def test_another_teacher_or_dataset_is_refused(top, tmp_path):
    records = Records.load(tmp_path)
    records.check_teacher(sets.ORIGIN.weights)
    records.check_data(sets.ORIGIN.data)
    with pytest.raises(UserError, match=r"another teacher, Transformer.*\n.*wanted 00"):
        records.check_teacher("00")
    with pytest.raises(UserError, match=r"other data:\n.* efef.*, wanted 00"):
        records.check_data("00")


def test_another_tokenizer_is_refused_by_its_first_tokens(top, tmp_path):
    records = Records.load(tmp_path)
    records.check_vocabulary(sets.byte_vocabulary())
    other = sets.byte_vocabulary("more")
    with pytest.raises(
        UserError, match=r"257 ids there, 258 here; token 257 is absent"
    ):
        records.check_vocabulary(other)
    pieces = list(sets.VOCABULARY.pieces)
    pieces[3], pieces[7] = pieces[7], pieces[3]
    other = dataclasses.replace(sets.VOCABULARY, pieces=pieces)
    with pytest.raises(
        UserError, match=r"\ntoken 3 is '#' there, .*; 7 is .* there, '#' here"
    ):
        records.check_vocabulary(other)
    other = dataclasses.replace(sets.VOCABULARY, ends=DocumentEnds((), (5,)))
    with pytest.raises(UserError, match="ends with id 0 there, 5 here"):
        records.check_vocabulary(other)
    flagged = dataclasses.replace(sets.VOCABULARY, special=frozenset({0, 9}))
    records.check_vocabulary(flagged)  # a mark is no difference
    (tmp_path / "records" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"another tokenizer;\nits copy .* cannot be"):
        records.check_vocabulary(other)


def test_a_directory_or_the_work_directory_above_it_is_found(top, tmp_path):
    assert manifest.locate(tmp_path) == tmp_path / "records"
    assert manifest.locate(tmp_path / "records") == tmp_path / "records"
    with pytest.raises(UserError, match="no such directory of teacher records"):
        manifest.locate(tmp_path / "absent")
    (tmp_path / "records" / "manifest.json").unlink()
    with pytest.raises(UserError, match="holds no finished teacher records"):
        manifest.locate(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-40], "is damaged"),
        (lambda text: "[]", "is damaged"),
        (lambda text: text.replace('"entries": 5', '"entries": 6'), "its own digest"),
        (
            lambda text: _with_format(text, 9),
            "has format 9, this program reads 1, 2, 3, 4, 5, 6, 7 and 8",
        ),
    ],
)
def test_a_damaged_manifest_is_refused(top, tmp_path, damage, message):
    path = tmp_path / "records" / "manifest.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=message):
        Records.load(tmp_path)


def _with_format(text, version):
    content = json.loads(text)["manifest"] | {"format": version}
    return json.dumps({"manifest": content, "sha256": manifest._digest(content)})


def test_reading_needs_no_jax():
    source = "import runner.records.reader, sys; print('jax' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr
