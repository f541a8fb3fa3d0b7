"""Records of another tokenizer's rows, joined to the student's by document and byte."""

import types

import numpy as np
import pytest

from runner.aligning.documents import TwoPackings
from runner.aligning.recorded import RecordedSpans
from runner.data.text.packed_text import pack
from runner.data.text.tokens import Tokens
from runner.errors import UserError
from runner.records import codes
from tests.runner.aligning.vocabularies import OTHERS, PLAIN, TEXTS, WORDS, spelled


def dataset(vocab, length, *, packing="cut", documents="these"):
    """The texts in rows of a vocabulary's tokens."""
    ids = [vocab.encode(text).astype(np.uint16) for text in TEXTS]
    tokens = Tokens(
        ids=np.concatenate(ids),
        offsets=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        document_bytes=np.array([len(text.encode()) for text in TEXTS]),
    )
    return pack(
        tokens,
        vocabulary=vocab,
        sequence_length=length,
        documents=documents,
        read=lambda: TEXTS,
        description={},
        packing=packing,
    )


def log_p(row, place):
    """What the teacher gives a target, in steps of records; one in seven is none."""
    return -np.inf if (row + place) % 7 == 3 else -(1 + row * 64 + place * 3) * 2.0**-9


def records(temperatures=(1.0,)):
    """Two entries a token: one that is best, and the target where it is one of them."""

    def teacher_arrays(numbers, rows):
        targets = rows["targets"].astype(np.int32)
        places = np.broadcast_to(np.arange(targets.shape[1]), targets.shape)
        values = np.vectorize(log_p)(numbers[:, None], places)
        none = np.isinf(values)
        ids = np.stack([(targets + 7) % 250, targets], -1).astype(np.uint16)
        ids[none, 1] = (targets[none] + 9) % 250
        below = np.where(none, -1.0, values)[..., None].astype(np.float32)
        return {
            "teacher/ids16": ids,
            "teacher/drops": codes.drops(below, np.zeros_like(below)).astype(np.uint16),
            "teacher/log_normalizers": np.zeros((*targets.shape, 1), np.float32),
        }

    layout = types.SimpleNamespace(mode="top_k", temperatures=temperatures, format=2)
    return types.SimpleNamespace(
        layout=layout, teacher_arrays=teacher_arrays, directory="records"
    )


def read(packings, temperatures=(1.0,)):
    stored = records(temperatures)

    def join(rows, numbers):
        return stored.teacher_arrays(numbers, rows)

    return RecordedSpans(packings=packings, records=stored, joins=[join])


@pytest.mark.parametrize("student", [WORDS, PLAIN])
@pytest.mark.parametrize("teacher", [OTHERS, PLAIN])
@pytest.mark.parametrize("packing", ["cut", "whole"])
def test_a_span_has_what_the_records_say_of_its_tokens(student, teacher, packing):
    mine, theirs = dataset(student, 9), dataset(teacher, 13, packing=packing)
    numbers = np.arange(len(mine))
    rows = mine.rows(numbers)
    joined = read(TwoPackings(mine, theirs)).align(rows, numbers)

    # Each document's targets in order, with what was recorded of them.
    own_rows = theirs.rows(np.arange(len(theirs)))
    documents, index, mask = theirs.packing.targets_at(np.arange(len(theirs)))
    said = {
        (documents[at], index[at]): (own_rows["targets"][at], max(log_p(*at), -1e5))
        for at in map(tuple, np.argwhere(mask).tolist())
    }
    documents, index, _ = mine.packing.targets_at(numbers)
    known, spans = joined["teacher/known"], joined["teacher/spans"]
    assert known.sum() > 20
    for row, place in np.argwhere(known).tolist():
        span = np.flatnonzero(spans[row] == spans[row, place])
        assert span[0] == place
        document = documents[row, place]
        before = int(mine.packing.offsets[document]) + index[row, place]
        ids = mine.packing.tokens[mine.packing.offsets[document] : before]
        start = len(spelled(student, ids))
        text = spelled(student, rows["targets"][row, span])
        # The teacher's tokens of these bytes of the document.
        at, values, token = 0, [], 0
        while at < start + len(text):
            target, value = said[document, token]
            at, token = at + len(spelled(teacher, np.array([target]))), token + 1
            values += [value] if at > start else []
        total = joined["teacher/span_log_probability"][row, place]
        before = joined["teacher/span_log_probability_before"][row, place]
        np.testing.assert_allclose(total, sum(values), rtol=1e-6)
        np.testing.assert_allclose(before, sum(values[:-1]), rtol=1e-6, atol=1e-6)


def test_what_is_not_of_the_data_is_refused():
    with pytest.raises(UserError, match="records are of other documents"):
        TwoPackings(dataset(WORDS, 9), dataset(PLAIN, 9, documents="those"))
    both = TwoPackings(dataset(WORDS, 9), dataset(PLAIN, 9))
    with pytest.raises(UserError, match=r"at temperatures 2\.0, and spans are of"):
        read(both, (2.0,))


def test_rows_that_were_not_recorded_say_nothing():
    mine, theirs = dataset(WORDS, 9), dataset(PLAIN, 13).part(1)
    numbers = np.arange(len(mine))
    joined = read(TwoPackings(mine, theirs)).align({}, numbers)
    known = joined["teacher/known"]
    assert known[0].any() and not known[3:].any()
