"""Digits and idx files: what is read, and how a wrong file is answered."""

import numpy as np
import pytest

from runner.data import Classes, Digits, IdxFolder, IdxImages, Images, Part, Partition
from runner.errors import UserError
from tests.runner.data.images.idx_files import idx, write


def source(folder, **fields):
    return IdxImages(IdxFolder(str(folder), classes=("a", "b", "c")), **fields)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_as_they_were_written(tmp_path, zipped):
    pixels, labels = write(tmp_path, zipped=zipped)
    loaded = source(tmp_path).load()
    rows = loaded.rows(np.array([4, 1]))
    np.testing.assert_array_equal(rows["images"], pixels[[4, 1], :, :, None])
    np.testing.assert_array_equal(rows["targets"], labels[[4, 1]])
    assert rows["mask"].all() and (rows["segment_ids"] == 1).all()
    assert (loaded.unit, loaded.targets_per_row, len(loaded)) == ("image", 1, 6)
    assert loaded.describe()["vocabulary"]["classes"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ("int32", "int32", "images .* got int32"),
        ("float64", "int64", "got float64"),
        ("uint8", "float32", "labels must be integers, got float32"),
    ],
)
def test_pixels_and_labels_of_another_type_are_refused(images, labels, message):
    pixels, classes = np.zeros((2, 4, 6, 1), images), np.zeros(2, labels)
    with pytest.raises(UserError, match=message):
        Images(images=pixels, labels=classes, vocabulary=Classes(["a"]))


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
WRONG = {
    "magic": (IMAGES, lambda old: b"\x89PNG" + old[4:], "begins with 0x89504e47, not"),
    "swapped": (IMAGES, lambda old: idx(np.zeros(6, np.uint8)), "not 0x00000803"),
    "short": (IMAGES, lambda old: old[:-1], "its header, (6, 4, 6), says 160"),
    "header": (LABELS, lambda old: old[:6], "cut short in its header, 6 bytes"),
    "fewer": (LABELS, lambda old: idx(np.zeros(5, np.uint8)), "6 images and 5 labels"),
    "beyond": (LABELS, lambda old: idx(np.full(6, 3, np.uint8)), "from 3 to 3, for 3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_in_a_line(tmp_path, case):
    name, damage, said = WRONG[case]
    write(tmp_path)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as refused:
        source(tmp_path).load()
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path))


def test_what_is_not_there_is_named_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match=r"no such directory: .*it is to hold train-im"):
        source(tmp_path / "no").check()
    write(tmp_path)
    with pytest.raises(UserError, match=r"no such file: .*t10k-images"):
        source(tmp_path, split="held_out").check()
    with pytest.raises(UserError, match="split must be one of train, held_out"):
        source(tmp_path, split="test")
    (tmp_path / IMAGES).unlink()
    (tmp_path / f"{IMAGES}.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="cannot be read"):
        source(tmp_path).load()


def test_the_digits_are_split_whole_and_by_the_seed():
    def images(split, seed=0):
        partition = Partition(held_out=0.2, seed=seed)
        return Digits(split=split, partition=partition).load()

    train, held_out, every = map(images, ("train", "held_out", "all"))
    assert (len(train), len(held_out), len(every)) == (1438, 359, 1797)
    together = np.concatenate([train.images, held_out.images])
    assert len(np.unique(together, axis=0)) == len(np.unique(every.images, axis=0))
    assert train.fingerprint == images("train").fingerprint
    assert train.fingerprint != images("train", seed=1).fingerprint
    assert (train.images.dtype, train.images.max()) == (np.float32, 1.0)
    part = Part(Digits(), 10).load()
    assert len(part) == 10 and part.fingerprint != train.fingerprint


def test_baselines_are_those_of_a_hand():
    pixels = np.array([0.0, 0.2, 1.0, 0.8], np.float32).reshape(4, 1, 1, 1)
    classes = Classes(["dark", "light"])
    train = Images(
        images=pixels, labels=np.array([0, 0, 1, 1], np.int32), vocabulary=classes
    )
    held_out = Images(
        images=pixels, labels=np.array([0, 1, 1, 1], np.int32), vocabulary=classes
    )
    frequent, nearest = train.baselines(held_out)
    assert frequent.nats_per_token == pytest.approx(np.log(2))
    assert (frequent.accuracy, nearest.accuracy) == (0.25, 0.75)
