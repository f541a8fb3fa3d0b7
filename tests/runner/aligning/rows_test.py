"""Rows in the tokens of another vocabulary: the same text, and spans of equal bytes."""

import numpy as np
import pytest
from tokenizers import normalizers

from runner.aligning.rows import RowAligner
from runner.aligning.shared_tokens import SharedTokens
from runner.aligning.spans import common_spans, ends_of
from runner.data.text.packing import Packing
from runner.errors import UserError
from tests.runner.aligning.vocabularies import OTHERS, PLAIN, TEXTS, WORDS, of, spelled


def packed(vocab, length):
    """All texts laid end to end and cut, amid characters too."""
    ids = [vocab.encode(text) for text in TEXTS]
    offsets = np.cumsum([0, *map(len, ids)])
    packing = Packing(
        tokens=np.concatenate(ids),
        offsets=offsets,
        begin=vocab.begin,
        end=vocab.end,
        sequence_length=length,
    )
    numbers = np.arange(len(packing))
    return packing.rows(numbers), numbers


@pytest.mark.parametrize("student", [WORDS, PLAIN])
@pytest.mark.parametrize("teacher", [OTHERS, PLAIN, WORDS])
@pytest.mark.parametrize("length", [5, 16])
def test_a_span_is_the_same_text_on_both_sides(student, teacher, length):
    rows, numbers = packed(student, length)
    joined = RowAligner(student, teacher, 40).align(rows, numbers)
    for row in numbers:
        spans, own = joined["teacher/spans"][row], joined["teacher/own_spans"][row]
        targets, theirs = rows["targets"][row], joined["teacher/targets"][row]
        assert set(spans) - {0} == set(own) - {0}
        for span in set(spans) - {0}:
            mine = np.flatnonzero(spans == span)
            text = spelled(student, targets[mine])
            assert text == spelled(teacher, theirs[own == span]) != b""
            assert joined["teacher/known"][row, mine].tolist() == [True] + [False] * (
                len(mine) - 1
            )
            at = [joined[f"teacher/{x}"][row, mine[0]] for x in ("first", "last")]
            assert at == np.flatnonzero(own == span)[[0, -1]].tolist()
        assert not joined["teacher/known"][row][spans == 0].any()
        # Of one document the input is what was predicted before it.
        ids = joined["teacher/segment_ids"][row]
        inputs = joined["teacher/tokens"][row]
        inside = (ids[1:] > 0) & (ids[1:] == ids[:-1])
        np.testing.assert_array_equal(inputs[1:][inside], theirs[:-1][inside])


def test_one_tokenizer_has_each_target_for_a_span():
    rows, numbers = packed(WORDS, 7)
    joined = RowAligner(WORDS, WORDS, 8).align(rows, numbers)
    whole = rows["mask"] & (joined["teacher/spans"] > 0)
    # All but those beside a character that the row's end cuts.
    assert whole.sum() > 0.8 * rows["mask"].sum()
    np.testing.assert_array_equal(whole, joined["teacher/known"])
    theirs = np.take_along_axis(
        joined["teacher/targets"], joined["teacher/first"], axis=1
    )
    np.testing.assert_array_equal(theirs[whole], rows["targets"][whole])


def test_what_a_tokenizer_normalizes_ends_a_span_where_the_text_does():
    lower = of([("t", "h")], names=("</s>",), normalizer=normalizers.Lowercase())
    ids = PLAIN.encode("aBc")
    row = {
        "tokens": np.array([[PLAIN.end, *ids]], np.int32),
        "targets": np.array([[*ids, PLAIN.end]], np.int32),
        "mask": np.ones((1, 4), bool),
        "segment_ids": np.ones((1, 4), np.int32),
    }
    spans = RowAligner(PLAIN, lower, 9).align(row, np.arange(1))["teacher/spans"]
    np.testing.assert_array_equal(spans, [[1, 2, 2, 3]])  # a, Bc, the end


def test_special_tokens_of_one_name_are_one():
    ours = of([("t", "h")], special=("<|x|>", "<|ours|>"))
    theirs = of([("a", "b")], names=("</s>",), special=("<|x|>",))
    a, b = PLAIN.encode("ab").tolist()
    a, b = a + 2, b + 2
    ids = [a, 1, b, 2, b]
    row = {
        "tokens": np.array([[ours.end, *ids[:-1]]], np.int32),
        "targets": np.array([ids], np.int32),
        "mask": np.array([[True, True, True, True, True]]),
        "segment_ids": np.ones((1, 5), np.int32),
    }
    joined = RowAligner(ours, theirs, 9).align(row, np.arange(1))
    # What the teacher has no token for is in no span, nor what goes on from it.
    np.testing.assert_array_equal(joined["teacher/spans"], [[1, 2, 3, 0, 0]])
    row["mask"][0, 1] = False
    joined = RowAligner(ours, theirs, 9).align(row, np.arange(1))
    np.testing.assert_array_equal(joined["teacher/spans"], [[1, 0, 3, 0, 0]])


def test_shared_tokens_are_of_one_meaning():
    shared = SharedTokens.of(WORDS, OTHERS)
    pairs = dict(zip(shared.student.tolist(), shared.teacher.tolist(), strict=True))
    assert pairs[WORDS.end] == OTHERS.end and len(pairs) == 257
    for own, their in pairs.items():
        assert WORDS.pieces[own] == OTHERS.pieces[their]


def test_a_row_that_takes_more_places_is_refused_with_their_number():
    rows, numbers = packed(WORDS, 16)
    with pytest.raises(UserError, match=r"row \d takes \d+ .*: positions=\d+ or more"):
        RowAligner(WORDS, PLAIN, 12).align(rows, numbers)


def test_tokens_without_text_are_part_of_the_next():
    np.testing.assert_array_equal(ends_of(np.array([0, 2, 0, 1])), [2, 2, 3, 3])
    spans = common_spans(np.array([1.0, 3.0]), np.array([2.5, 3.0]), begin=0)
    assert [x.tolist() for x in spans] == [[1, 1], [1, 1]]
