import json

import pytest

from runner.data import JsonLines, Split, TextFiles
from runner.errors import UserError


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.jsonl"
    texts = [f"text {i % 900}" for i in range(1000)]  # a tenth of them twice
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return JsonLines(files=[str(path)])


def texts(documents):
    return [document.text for document in documents]


def test_each_document_is_on_one_side_and_equal_ones_on_the_same(source):
    train = texts(Split(source, part="train", share=0.1))
    held_out = texts(Split(source, part="held_out", share=0.1))
    assert sorted(train + held_out) == sorted(texts(source))
    assert not set(train) & set(held_out)
    assert 60 < len(held_out) < 140


def test_neither_order_nor_place_decides(source, tmp_path):
    chosen = set(texts(Split(source, part="held_out", share=0.1)))
    lines = (tmp_path / "a.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b.jsonl").write_text("".join(lines[::-1]))
    other = JsonLines(files=[str(tmp_path / "b.jsonl")])
    assert set(texts(Split(other, part="held_out", share=0.1))) == chosen


def test_records_are_split_too(source):
    sides = [
        {r.values["text"] for r in Split(source, part=part, share=0.2).records()}
        for part in ("train", "held_out")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_what_cannot_be_split_is_named(source, folder):
    with pytest.raises(UserError, match="part is 'heldout'; did you mean 'held_out'"):
        Split(source, part="heldout")
    with pytest.raises(UserError, match=r"share must be between 0 and 1, got 1.5"):
        Split(source, share=1.5)
    with pytest.raises(UserError, match="TextFiles has texts, and no records"):
        next(iter(Split(TextFiles([str(folder)])).records()))


def test_a_part_that_no_document_is_in_is_refused(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    few = TextFiles(files=[str(tmp_path)])
    assert len(texts(Split(few, part="train", share=0.01))) == 3
    with pytest.raises(
        UserError, match="of 3 documents none is in the part 'held_out'"
    ):
        texts(Split(few, part="held_out", share=0.01))
