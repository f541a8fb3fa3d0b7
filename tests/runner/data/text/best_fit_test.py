import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.data.text.best_fit import best_fit

lengths = st.lists(st.integers(1, 20), max_size=60)


def by_hand(sizes, capacity):
    """Best fit decreasing, row by row, without a search structure."""
    rows, room = [], []
    for piece in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        fits = [(left, row) for row, left in enumerate(room) if left >= sizes[piece]]
        if not fits:
            rows.append([])
            room.append(capacity)
            fits = [(capacity, len(rows) - 1)]
        row = min(fits)[1]
        rows[row].append(piece)
        room[row] -= sizes[piece]
    return rows


@given(lengths)
def test_every_piece_lies_in_one_row_and_fits(sizes):
    rows = best_fit(sizes, 20)
    assert sorted(piece for row in rows for piece in row) == list(range(len(sizes)))
    assert all(sum(sizes[piece] for piece in row) <= 20 for row in rows)


@given(lengths)
def test_as_few_rows_as_best_fit_decreasing(sizes):
    assert len(best_fit(sizes, 20)) == len(by_hand(sizes, 20))


def test_rows_follow_the_order_of_the_data():
    assert best_fit([5, 9, 5, 1, 10], 10) == [[0, 2], [1, 3], [4]]
    assert best_fit(np.array([], np.int64), 10) == []
