import sys
import sysconfig
import types
from pathlib import Path

import pytest

from runner.data import PythonLibrary
from runner.data.documents.document import digest
from runner.data.text import python_library
from runner.errors import UserError


@pytest.fixture(scope="module")
def splits():
    return {
        split: {d.name: d.text for d in PythonLibrary(split=split)}
        for split in ("train", "held_out", "all")
    }


def test_the_splits_share_nothing_and_are_all_there_is(splits):
    train, held_out = splits["train"], splits["held_out"]
    assert not train.keys() & held_out.keys()
    assert not set(train.values()) & set(held_out.values())
    assert train | held_out == splits["all"]


def test_the_held_out_share_is_near_eight_percent(splits):
    size = {name: sum(map(len, texts.values())) for name, texts in splits.items()}
    assert 5e6 < size["all"] < 30e6
    assert 0.03 < size["held_out"] / size["all"] < 0.15


def test_a_file_is_on_the_same_side_in_every_interpreter():
    held_out = ["tarfile.py", "zipfile.py", "gzip.py", "urllib/request.py"]
    train = ["ast.py", "typing.py", "json/decoder.py", "pydoc_data/topics.py"]
    assert [python_library.held_out(path) for path in held_out] == [True] * 4
    assert [python_library.held_out(path) for path in train] == [False] * 4


def test_it_is_text_of_the_library_itself(splits):
    names = splits["all"]
    assert {"typing.py", "json/decoder.py"} <= names.keys()
    assert any(name.startswith("pydoc_data/topics/") for name in names)
    assert not [
        name
        for name in names
        if {"test", "tests", "site-packages", "idle_test"} & set(name.split("/"))
        or name.startswith(("encodings/", "_sysconfigdata"))
    ]
    assert names["typing.py"] == Path(
        sysconfig.get_path("stdlib"), "typing.py"
    ).read_text(encoding="utf-8")


def test_no_topic_is_contained_in_another(splits):
    topics = [t for name, t in splits["all"].items() if "/topics/" in name]
    bodies = [topic.strip().split("\n", 2)[-1].strip() for topic in topics]
    for body in bodies:
        assert sum(body in topic for topic in topics) == 1


def test_it_is_the_same_each_time():
    found = {digest(PythonLibrary(split="held_out")).hexdigest() for _ in range(2)}
    assert len(found) == 1


def test_files_that_cannot_be_read_are_passed_over(tmp_path, monkeypatch):
    for name in ("ast.py", "json/decoder.py", "json/test/x.py", "mine.py", "abc.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "abc.py").write_bytes(b"# -*- coding: latin-1 -*-\n# \xe9\n")
    monkeypatch.setattr(python_library, "_root", lambda: tmp_path)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    names = [document.name for document in PythonLibrary(split="all")]
    assert names == ["ast.py", "json/decoder.py"]


def test_topics_may_be_written_another_way(tmp_path, monkeypatch):
    topics = {"a": "A\n=\n\nlong text\nof b\n", "b": "B\n*\n\nof b\n", "c": "C\n"}
    monkeypatch.setattr(python_library, "_root", lambda: tmp_path)
    module = types.SimpleNamespace(topics=topics)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)
    names = [document.name for document in PythonLibrary(split="all")]
    assert "pydoc_data/topics/a" in names
    assert "pydoc_data/topics/b" not in names


def test_a_python_without_source_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(python_library, "_root", lambda: tmp_path / "lib")
    with pytest.raises(UserError, match=r"lib\ntrain on your own text"):
        PythonLibrary().check()


def test_a_wrong_split_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"got 'heldout'; did you mean 'held_out'\?"):
        PythonLibrary(split="heldout")
