"""Held-out documents and images that are trained on are counted before training."""

import dataclasses
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data import Classes, Part, TextFiles
from runner.data.images.images import Images
from runner.data.repeats import Repeats, repeated
from runner.train.setup import Setup


@given(*[st.lists(st.lists(st.integers(0, 2), max_size=3), max_size=9)] * 2)
def test_repeats_are_those_of_a_set(train, held_out):
    arrays = [[np.array(ids, "<u2") for ids in some] for some in (train, held_out)]
    expected = [i for i, ids in enumerate(held_out) if ids in train]
    assert repeated(*arrays).tolist() == expected


def test_equal_documents_are_counted_whatever_their_names(source, folder, cache):
    (folder / "copy.txt").write_bytes((folder / "c.txt").read_bytes())
    train = dataclasses.replace(
        source, documents=TextFiles([str(folder / "[abc].txt")])
    )
    held_out = TextFiles([str(folder / "copy.txt"), str(folder / "d.txt")])
    held_out = dataclasses.replace(source, documents=held_out)
    rows, test_rows = train.load(cache=cache), held_out.load(cache=cache)
    repeats = rows.repeats(test_rows)
    assert (repeats.count, repeats.total) == (1, 2)
    assert str(repeats).startswith("1 of 2 documents is in the training data too, the")
    assert "def area(r)" in str(repeats)
    fewer = dataclasses.replace(source, documents=TextFiles([str(folder / "a.txt")]))
    assert fewer.load(cache=cache).repeats(test_rows) is None
    other = dataclasses.replace(source.tokenizer, vocab_size=301)
    other = dataclasses.replace(held_out, tokenizer=other).load(cache=cache)
    assert rows.repeats(other) is None


def test_only_documents_of_chosen_rows_count(source, cache):
    whole = source.load(cache=cache)
    first = Part(data=source, num_rows=1).load(cache=cache)
    assert first.repeats(whole).count == 1
    assert whole.repeats(first).total == 1
    assert whole.repeats(whole).count == len(whole.packing.offsets) - 1


@pytest.mark.parametrize(
    ("dtype", "other"), [(np.uint8, np.float32), (np.float32, np.uint8)]
)
def test_equal_images_are_counted(dtype, other):
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 2, (6, 4, 4, 1)).astype(dtype)

    def images(pixels):
        labels = np.zeros(len(pixels), np.int32)
        return Images(images=pixels, labels=labels, vocabulary=Classes(["a"]))

    train, held_out = images(pixels[:4]), images(pixels[3:])
    assert train.repeats(held_out) == Repeats(1, 3, "image", "row 0")
    assert train.repeats(images(pixels[4:])) is None
    assert train.repeats(images(pixels[4:].astype(other))) is None


def test_a_run_says_so_before_it_trains(source, cache):
    dataset = source.load(cache=cache)
    setup = types.SimpleNamespace(
        dataset=dataset,
        step=types.SimpleNamespace(teacher=None),
        evaluators={"held_out": types.SimpleNamespace(dataset=dataset, cautions=())},
    )
    assert Setup.cautions.fget is not None
    (line,) = Setup.cautions.fget(setup)
    assert line.startswith("held_out: 4 of 4 documents are in the training data too")
