"""Rows of implicit feedback: a function of their number, of users in equal shares."""

import dataclasses

import numpy as np
import pytest

from runner.data import Interactions, SyntheticInteractions
from runner.data.interactions.rows import CandidateRows
from runner.errors import UserError

SOURCE = SyntheticInteractions(
    num_users=7, num_items=30, per_user=10, rows_per_user=4, held_out=2, noise=0.5
)


def test_rows_are_candidates_of_one_user_and_an_item_that_it_did_not_choose():
    dataset = SOURCE.load()
    assert isinstance(dataset, CandidateRows)
    rows = dataset.rows(np.arange(len(dataset)))
    assert len(dataset) == 28
    np.testing.assert_array_equal(np.bincount(rows["users"][:, 0]), np.full(7, 4))
    for users, items, others in zip(
        rows["users"], rows["targets"], rows["negatives"], strict=True
    ):
        assert len(set(users)) == len(set(others)) == 1
        own = dataset.chosen(users[0])
        assert len(own) == 12  # 8 of 10, and half as many that are false
        assert len(set(items)) == 5
        assert set(items) <= set(own)
        assert others[0] not in own
    # Whatever process or run reads a row, beside whatever others.
    some = dataset.rows(np.array([26, 3]))
    for name, values in some.items():
        np.testing.assert_array_equal(values, rows[name][[26, 3]])
    assert np.any(rows["targets"][0] != rows["targets"][7])
    assert dataset.order(0) is None  # permutations of all rows
    assert SOURCE.load().fingerprint == dataset.fingerprint
    for other in ({"seed": 1}, {"candidates": 4}, {"noise": 0.25}):
        changed = dataclasses.replace(SOURCE, **other).load()
        assert changed.fingerprint != dataset.fingerprint


def test_what_is_held_out_is_clean_and_not_among_what_was_seen():
    clean = dataclasses.replace(SOURCE, noise=0.0)
    truth = clean.pairs()
    both = set(zip(truth.users.tolist(), truth.items.tolist(), strict=True))
    held_out, train = (
        dataclasses.replace(SOURCE, split="held_out").load(),
        SOURCE.load(),
    )
    assert isinstance(train, CandidateRows)
    rows = held_out.rows(np.arange(len(held_out)))
    assert len(held_out) == 14
    for user, item, seen in zip(
        rows["users"], rows["targets"], rows["seen"], strict=True
    ):
        assert (int(user[0]), int(item[0])) in both
        assert item[0] not in seen
        np.testing.assert_array_equal(seen[0], train.chosen(user[0]))


def test_a_file_is_read_and_what_is_wrong_is_named(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("user,item\nann,tea\nann,milk\nbob,tea\nann,tea\n")
    source = Interactions(file=str(path), candidates=2, held_out=0)
    pairs = source.pairs()
    assert pairs.names == ["milk", "tea"]
    np.testing.assert_array_equal(pairs.users, [0, 0, 1])
    with pytest.raises(UserError, match="user 0 chose every item"):
        source.load()
    path.write_text("user,item\nann,tea\nbob,milk\n")
    rows = source.load().rows(np.arange(2))
    np.testing.assert_array_equal(rows["targets"], [[1, 1], [0, 0]])
    np.testing.assert_array_equal(rows["negatives"], [[0, 0], [1, 1]])
    with pytest.raises(UserError, match="no column 'usr'; did you mean 'user'"):
        dataclasses.replace(source, user="usr").load()
    with pytest.raises(UserError, match="no user has more items than that"):
        dataclasses.replace(source, split="held_out").load()
    path.write_text("user,item\nann,tea\nbob,\n")
    with pytest.raises(UserError, match=r"clicks.csv:3: no user or item"):
        source.load()
