import json
import sys

import pytest

from runner.data import Document, HuggingFaceDataset, Parquet
from runner.data.documents.document import digest
from runner.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

TEXTS = [f"text {i} é" for i in range(700)]


def table(**columns):
    return pyarrow.table(columns or {"text": TEXTS, "id": list(range(len(TEXTS)))})


def parquet(folder, content=None, name="a.parquet"):
    path = folder / name
    pq.write_table(content or table(), path, row_group_size=300)
    return path


def arrow_stream(path, content):
    with pyarrow.ipc.new_stream(str(path), content.schema) as writer:
        writer.write_table(content, max_chunksize=300)


def saved(folder, content=None):
    """As `Dataset.save_to_disk` of datasets 4.4 writes it, in two files."""
    content = content or table()
    folder.mkdir(parents=True)
    names = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    arrow_stream(folder / names[0], content.slice(0, 400))
    arrow_stream(folder / names[1], content.slice(400))
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def splits(folder, *names):
    for name in names:
        saved(folder / name)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(names)}))
    return folder


def test_rows_of_parquet_are_documents_named_by_their_number(tmp_path):
    documents = list(Parquet(files=[str(parquet(tmp_path))]))
    assert [document.text for document in documents] == TEXTS
    assert documents[299] == Document("a.parquet:300", TEXTS[299])


def test_a_saved_dataset_is_read_in_the_order_of_its_files(tmp_path):
    folder = saved(tmp_path / "set")
    documents = list(HuggingFaceDataset(folder=str(folder)))
    assert [document.text for document in documents] == TEXTS
    assert documents[-1].name == "data-00001-of-00002.arrow:300"
    # ... and its bytes are those of the texts.
    hashed = digest(HuggingFaceDataset(folder=str(folder)))
    assert hashed.bytes == sum(len(text.encode()) for text in TEXTS)


def test_an_arrow_file_is_read_as_a_stream_is(tmp_path):
    folder = saved(tmp_path / "set")
    path = folder / "data-00001-of-00002.arrow"
    with pyarrow.ipc.new_file(str(path), table().schema) as writer:
        writer.write_table(table().slice(400))
    texts = [document.text for document in HuggingFaceDataset(folder=str(folder))]
    assert texts == TEXTS


def test_records_have_the_columns_that_are_asked_for(tmp_path):
    path = parquet(tmp_path)
    source = Parquet(files=[str(path)])
    assert next(iter(source.records(("id", "other")))).values == {"id": 0}
    assert next(iter(source.records())).values == {"text": TEXTS[0], "id": 0}
    folder = HuggingFaceDataset(folder=str(saved(tmp_path / "set")))
    assert next(iter(folder.records(("id",)))).values == {"id": 0}


def test_a_dictionary_of_strings_is_text(tmp_path):
    path = parquet(tmp_path, table(text=pyarrow.array(TEXTS).dictionary_encode()))
    assert [document.text for document in Parquet(files=[str(path)])] == TEXTS


def test_splits_are_chosen_by_name(tmp_path):
    folder = splits(tmp_path / "set", "train", "test")
    assert len(list(HuggingFaceDataset(folder=str(folder), split="test"))) == 700
    one = splits(tmp_path / "one", "train")
    assert len(list(HuggingFaceDataset(folder=str(one)))) == 700


def refused(documents):
    with pytest.raises(UserError) as error:
        documents.check()
        list(documents)
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)


def test_a_wrong_column_is_named_with_the_nearest(tmp_path):
    path = str(parquet(tmp_path))
    said = refused(Parquet(files=[path], column="texts"))
    assert said == f"{path}: no field 'texts'; did you mean 'text'?"
    said = refused(Parquet(files=[path], column="id"))
    assert said == f"{path}: field 'id' must be a string, got int64"
    folder = str(saved(tmp_path / "set"))
    assert "did you mean 'text'" in refused(HuggingFaceDataset(folder, column="tex"))


def test_a_row_without_text_is_named(tmp_path):
    path = str(parquet(tmp_path, table(text=["a", None])))
    said = refused(Parquet(files=[path]))
    assert said == f"{path}:2: field 'text' must be a string, got NoneType"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is no whole Parquet"),
        (lambda path: path.write_bytes(b"text"), "is no whole Parquet or Arrow file"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_a_damaged_parquet_file_is_named(tmp_path, change, message):
    path = parquet(tmp_path)
    change(path)
    assert message in refused(Parquet(files=[str(path)]))


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("tset", lambda folder: None, "has no split 'tset'; did you mean 'test'?"),
        ("", lambda folder: None, "has no split ''; one of: test, train"),
        (
            "test",
            lambda folder: (folder / "test" / "state.json").unlink(),
            "holds no state.json",
        ),
        (
            "test",
            lambda folder: (folder / "test" / "data-00001-of-00002.arrow").unlink(),
            "lacks data-00001-of-00002.arrow",
        ),
        (
            "test",
            lambda folder: (folder / "test" / "state.json").write_text(
                json.dumps({"_data_files": [{"filename": "../../secret.arrow"}]})
            ),
            "'../../secret.arrow' names nothing inside of",
        ),
    ],
)
def test_a_wrong_folder_is_named(tmp_path, split, change, message):
    folder = splits(tmp_path / "set", "train", "test")
    change(folder)
    assert message in refused(HuggingFaceDataset(folder=str(folder), split=split))


def test_a_library_that_is_absent_is_named_with_its_extra(tmp_path, monkeypatch):
    path = str(parquet(tmp_path))
    (tmp_path / "a.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    said = refused(Parquet(files=[path]))
    wanted = "needs the library pyarrow (the extra 'parquet'): pip install pyarrow"
    assert said == f"{path} {wanted}"
    from runner.data import TextFiles

    said = refused(TextFiles(files=[str(tmp_path / "a.zst")]))
    assert said.endswith("zstandard (the extra 'zstd'): pip install zstandard")
