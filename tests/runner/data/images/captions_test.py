"""Captions beside images: their bytes, and what is refused."""

import dataclasses

import numpy as np
import pytest

from runner.data import Captions, Classes, DataSource, Images
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class Three(DataSource):
    """Three images of two classes."""

    def check(self):
        pass

    def load(self, *, cache=""):
        del cache
        return Images(
            images=np.zeros((3, 2, 2, 1), np.float32),
            labels=np.array([1, 0, 1], np.int32),
            vocabulary=Classes(["cat", "dog"]),
        )


def texts(dataset):
    rows = dataset.rows(np.arange(len(dataset)))["captions"]
    return [bytes(x[x >= 0].tolist()).decode() for x in rows]


def test_captions_are_written_from_classes_or_read(tmp_path):
    written = Captions(Three(), templates=("a {}", "the {}!"), names=("cät", "dog"))
    dataset = written.load()
    assert texts(dataset) == ["a dog", "the cät!", "a dog"]
    assert dataset.describe_all()["columns"]["captions"]["dtype"] == "int32"
    path = tmp_path / "captions.jsonl"
    path.write_text('{"caption": "one"}\n{"caption": "two"}\n{"caption": "three"}\n')
    assert texts(Captions(Three(), str(path)).load()) == ["one", "two", "three"]
    for wrong, message in (
        ({"length": 3}, "text 2 has 5 ids; wanted: 1 to 3"),
        ({"field": "text"}, "no field 'text'"),
    ):
        with pytest.raises(UserError, match=message):
            Captions(Three(), str(path), **wrong).load()
    with pytest.raises(UserError, match=r"a template has {} for the class"):
        Captions(Three(), templates=("a cat",))
