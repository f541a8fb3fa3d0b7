import dataclasses
import json

import numpy as np
import pytest

import losses
from runner.data import Columns, DataSource, Part, write_columns
from runner.data.dataset import Column
from runner.errors import UserError
from tests.runner.data.own_rows import own


@dataclasses.dataclass(frozen=True)
class Twelve(DataSource):
    """Twelve rows of four tokens."""

    def check(self):
        pass

    def load(self, *, cache=""):
        del cache
        return own()


ENTRIES = [
    {"bag": i // 3, "score": i / 4, "forget": i % 2 == 0, "from": "ab"[i % 2]}
    for i in range(12)
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "columns.jsonl"
    path.write_text("\n".join(map(json.dumps, ENTRIES)) + "\n\n")
    return path


def joined(file, *fields, data=None, **options):
    return Columns(data or Twelve(), str(file), fields, **options).load()


def test_columns_come_with_the_rows(file):
    rows = joined(file, "bag", "score", "forget", "from").rows(np.array([7, 0]))
    np.testing.assert_array_equal(rows["bag"], np.int32([2, 0]))
    np.testing.assert_array_equal(rows["score"], np.float32([7 / 4, 0]))
    np.testing.assert_array_equal(rows["forget"], [False, True])
    ids = [losses.name_id("b"), losses.name_id("a")]
    np.testing.assert_array_equal(rows["from"], np.int32(ids))
    assert [rows[n].dtype for n in ("bag", "score", "forget", "from")] == [
        np.int32,
        np.float32,
        bool,
        np.int32,
    ]


def test_a_key_says_which_row_an_entry_is_of(tmp_path):
    order = np.random.default_rng(0).permutation(12).tolist()
    path = tmp_path / "shuffled.jsonl"
    path.write_text("\n".join(json.dumps({"row": i, "x": i * i}) for i in order))
    rows = joined(path, "x", key="row").rows(np.arange(12))
    np.testing.assert_array_equal(rows["x"], np.arange(12) ** 2)
    path.write_text("\n".join(json.dumps({"row": i // 2, "x": 0}) for i in order))
    with pytest.raises(UserError, match="'row' must hold each number from 0 to 11"):
        joined(path, "x", key="row")


def test_a_part_of_rows_with_columns_keeps_them(file):
    part = Part(Columns(Twelve(), str(file), ["bag"]), num_rows=4).load()
    np.testing.assert_array_equal(part.rows(np.arange(4))["bag"], [0, 1, 2, 3])


def test_columns_of_a_part_are_of_its_rows(file):
    file.write_text("".join(f'{{"x": {i}}}\n' for i in (10, 20, 30, 40)))
    dataset = joined(file, "x", data=Part(Twelve(), num_rows=4))
    np.testing.assert_array_equal(dataset.rows(np.array([3, 1]))["x"], [40, 20])


def test_columns_of_documents_reach_each_token(source, folder, file, cache):
    file.write_text("".join(f'{{"x": {i}}}\n' for i in range(4)))
    columns = Columns(source, str(file), ["x"], by="document")
    dataset = columns.load(cache=cache)
    rows = dataset.rows(np.arange(len(dataset)))
    ends = np.cumsum(rows["targets"][rows["mask"]] == 0)  # of earlier documents
    expected = np.concatenate([[0], ends[:-1]])
    np.testing.assert_array_equal(rows["x"][rows["mask"]], expected)


def test_the_description_follows_the_columns_and_the_fingerprint_does_not(file):
    before = joined(file, "bag", "score")
    assert before.fingerprint == own().fingerprint  # records of the rows go on
    described = before.describe_all()["columns"]
    assert described["bag"]["dtype"] == "int32"
    file.write_text(file.read_text().replace('"bag": 3', '"bag": 4'))
    after = joined(file, "bag", "score").describe_all()["columns"]
    assert after["score"] == described["score"] and after["bag"] != described["bag"]


def test_written_columns_are_held_to_their_data(tmp_path):
    path = tmp_path / "columns.npz"
    write_columns(path, {"x": np.arange(12.0), "file": np.arange(12)}, dataset=own())
    rows = joined(path, "x").rows(np.array([5]))
    np.testing.assert_array_equal(rows["x"], np.float32([5]))

    other = Part(Twelve(), num_rows=12)
    manifest = path.with_name("columns.npz.json")
    text = manifest.read_text()
    manifest.write_text(text.replace("0" * 32, "1" * 32))
    with pytest.raises(UserError, match="holds columns of other data"):
        joined(path, "x", data=other)
    manifest.write_text(text)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"not the file that columns.npz.json"):
        joined(path, "x")


REFUSED = {
    "a missing field": ('{"bags": 1}', r"no field 'bag'; .*bags"),
    "too few": ('{"bag": 1}', "has 1 entries, the data 12 rows"),
    "no JSON": ("bag,1", "neither JSON lines nor"),
    "no object": ("[1]", "expected a JSON object"),
    "several kinds": ('{"bag": 1}\n{"bag": "a"}', "got int, str"),
    "lists and numbers": ('{"bag": [1]}\n{"bag": 1}', "entry 1 must be a list of int"),
    "numbers and lists": ('{"bag": 1}\n{"bag": [1]}', "got int, list"),
    "lists of lists": ('{"bag": [[1]]}', "entry 0 must be a list of integers"),
    "large integers": ('{"bag": 3000000000}', "beyond int32"),
    "larger integers": ('{"bag": 30000000000000000000000}', "beyond int32"),
    "no number": ('{"bag": NaN}', "not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_is_refused(tmp_path, case):
    content, message = REFUSED[case]
    path = tmp_path / "columns.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        joined(path, "bag")


def test_what_is_not_there_or_there_twice_is_refused(file, tmp_path, source, cache):
    with pytest.raises(UserError, match="no such file of columns: none"):
        Columns(Twelve(), "none", ["bag"]).check()
    with pytest.raises(UserError, match="fields must name at least one"):
        Columns(Twelve(), str(file), [])
    with pytest.raises(UserError, match=r"by is 'rows'; .*row"):
        Columns(Twelve(), str(file), ["bag"], by="rows")  # pyright: ignore[reportArgumentType] - refused
    with pytest.raises(UserError, match="two columns 'bag'"):
        joined(file, "bag", data=Columns(Twelve(), str(file), ["bag"]))
    with pytest.raises(UserError, match="by='document' wants packed text"):
        joined(file, "bag", by="document")
    with pytest.raises(UserError, match="'bag': by='document' wants packed text"):
        own().with_columns({"bag": Column(values=np.arange(12), by="document")})
    file.write_text('{"mask": 1}\n' * 12)
    with pytest.raises(UserError, match="a column 'mask', and the rows have"):
        joined(file, "mask").rows(np.array([0]))
    empty = tmp_path / "columns.npz"
    empty.write_bytes(b"")
    with pytest.raises(UserError, match="not a file of arrays"):
        joined(empty, "bag")
