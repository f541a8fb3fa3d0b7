import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.data.text.packing import Packing, WholePacking

BEGIN, END = 50, 0


def packed(documents, length):
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    ids = np.array([i for document in documents for i in document], np.uint16)
    return Packing(
        tokens=ids, offsets=offsets, begin=BEGIN, end=END, sequence_length=length
    )


def all_rows(packing):
    return packing.rows(np.arange(len(packing)))


def by_hand(documents, length):
    """The rows again, one position at a time."""
    places = [
        (document, at, inputs, target)
        for document, ids in enumerate(documents)
        for at, (inputs, target) in enumerate(
            zip([BEGIN, *ids], [*ids, END], strict=True)
        )
    ]
    while len(places) % length:
        places.append((None, 0, END, END))
    rows = []
    for start in range(0, len(places), length):
        row = places[start : start + length]
        first = row[0][0]
        begins = {}
        for column, (document, *_) in enumerate(row):
            begins.setdefault(document, column)
        rows.append(
            [
                (
                    inputs,
                    target,
                    document is not None,
                    0 if document is None else document - first + 1,
                    0 if document is None else column - begins[document],
                )
                for column, (document, _, inputs, target) in enumerate(row)
            ]
        )
    return np.array(rows)


documents_and_length = (
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=30), min_size=1),
    st.integers(1, 20),
)


@given(*documents_and_length)
@example([[1]], 1)
@example([[1, 2, 3]], 4)
@example([[1, 2, 3], [4]], 4)
def test_rows_are_those_cut_by_hand(documents, length):
    rows = all_rows(packed(documents, length))
    names = ["tokens", "targets", "mask", "segment_ids", "positions"]
    found = np.stack([rows[name].astype(np.int64) for name in names], axis=-1)
    np.testing.assert_array_equal(found, by_hand(documents, length))


@given(*documents_and_length)
def test_every_id_and_every_end_is_predicted_once_and_in_order(documents, length):
    rows = all_rows(packed(documents, length))
    wanted = [i for document in documents for i in [*document, END]]
    assert rows["targets"][rows["mask"]].tolist() == wanted


@given(*documents_and_length)
def test_within_a_segment_the_target_is_the_next_input(documents, length):
    rows = all_rows(packed(documents, length))
    same = (rows["segment_ids"][:, 1:] == rows["segment_ids"][:, :-1]) & rows["mask"][
        :, 1:
    ]
    np.testing.assert_array_equal(
        rows["tokens"][:, 1:][same], rows["targets"][:, :-1][same]
    )
    # ... and the end is predicted only where the segment, or the row, ends.
    assert not np.any(rows["targets"][:, :-1][same] == END)


@given(*documents_and_length)
def test_a_segment_begins_at_every_document_and_row(documents, length):
    rows = all_rows(packed(documents, length))
    begins = rows["positions"] == 0
    after_end = np.roll(rows["targets"], 1, axis=1) == END
    after_end[:, 0] = True
    np.testing.assert_array_equal(begins[rows["mask"]], after_end[rows["mask"]])
    segments = np.where(rows["mask"], np.cumsum(begins & rows["mask"], axis=1), 0)
    np.testing.assert_array_equal(rows["segment_ids"], segments)


@given(*documents_and_length)
def test_only_the_last_row_is_padded(documents, length):
    packing = packed(documents, length)
    mask = all_rows(packing)["mask"]
    assert mask[:-1].all()
    assert mask[-1, 0]
    assert mask.sum() == packing.positions == sum(len(d) + 1 for d in documents)


def test_a_row_is_the_same_alone_and_among_others():
    packing = packed([[1, 2, 3, 4, 5], [6], [7, 8, 9]], 4)
    together = packing.rows(np.array([2, 0, 1]))
    for place, number in enumerate([2, 0, 1]):
        alone = packing.rows(np.array([number]))
        for name, array in alone.items():
            np.testing.assert_array_equal(together[name][place], array[0], name)


@pytest.mark.parametrize("name", ["tokens", "targets", "segment_ids", "positions"])
def test_arrays_are_int32(name):
    assert all_rows(packed([[1, 2], [3]], 2))[name].dtype == np.int32


def whole(documents, length):
    return WholePacking(**vars(packed(documents, length)))


@given(*documents_and_length)
@example([[1]], 1)
def test_whole_rows_predict_every_id_and_end_once(documents, length):
    rows = all_rows(whole(documents, length))
    wanted = sorted(i for document in documents for i in [*document, END])
    assert sorted(rows["targets"][rows["mask"]].tolist()) == wanted


@given(*documents_and_length)
def test_only_a_document_longer_than_a_row_is_cut(documents, length):
    packing = whole(documents, length)
    for number, document in enumerate(documents):
        pieces = [
            row
            for row in range(len(packing))
            if number in packing.documents(np.array([row]))
        ]
        assert len(pieces) == -(-(len(document) + 1) // length)


@given(*documents_and_length)
def test_a_segment_of_a_whole_row_is_a_document_cut_by_hand(documents, length):
    rows = all_rows(whole(documents, length))
    pieces = []
    for ids in documents:
        pairs = list(zip([BEGIN, *ids], [*ids, END], strict=True))
        pieces += [pairs[i : i + length] for i in range(0, len(pairs), length)]
    found = []
    for row in range(len(rows["mask"])):
        for segment in range(1, rows["segment_ids"][row].max() + 1):
            at = rows["segment_ids"][row] == segment
            names = ("tokens", "targets", "positions")
            inputs, targets, positions = (
                rows[name][row][at].tolist() for name in names
            )
            assert positions == list(range(len(positions)))
            found.append(list(zip(inputs, targets, strict=True)))
    assert sorted(found) == sorted(pieces)
    padding = ~rows["mask"]
    assert (rows["segment_ids"][padding] == 0).all()
    assert (rows["targets"][padding] == END).all()


@given(*documents_and_length)
def test_shares_of_whole_rows_add_up(documents, length):
    packing = whole(documents, length)
    weights = np.arange(60.0)
    total = np.zeros(len(documents))
    for row in range(len(packing)):
        for document, share in packing.shares(np.array([row]), weights).items():
            total[document] += share
    np.testing.assert_allclose(total, 1)
