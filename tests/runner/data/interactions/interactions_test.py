"""Rows of implicit feedback: a function of their number, of users in equal shares."""

import dataclasses
import functools
import json

import numpy as np
import optax
import pytest

import losses
from models import MatrixFactorization
from runner.data import Interactions, SeriesFile, SyntheticInteractions
from runner.data.interactions.rows import CandidateRows
from runner.errors import UserError
from runner.state.trainable import TrainModules
from runner.step.requirements import check_data

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


def test_no_noise_moves_what_is_held_out_and_none_of_it_is_a_negative():
    few = dataclasses.replace(SOURCE, num_users=40, num_items=14, noise=0.1)
    held_out = dataclasses.replace(few, split="held_out", noise=0.0).load()
    rows = held_out.rows(np.arange(len(held_out)))
    pairs = set(zip(rows["users"][:, 0], rows["targets"][:, 0], strict=True))
    assert len(pairs) == 80
    assert not pairs & set(
        zip(rows["users"][:, 0], rows["negatives"][:, 0], strict=True)
    )
    for noise in (0.0, 0.1, 0.4):
        train = dataclasses.replace(few, noise=noise).load()
        assert isinstance(train, CandidateRows)
        assert not [x for x in pairs if x[1] in train.chosen(x[0])]
        train.check_held_out(held_out)
    for other in ({"seed": 1}, {"held_out": 3}):
        ((name, value),) = other.items()
        train = dataclasses.replace(few, **other).load()
        with pytest.raises(UserError, match=f"wanted: {name}={value}, so that nothing"):
            train.check_held_out(held_out)


def test_a_student_of_too_few_users_is_refused():
    student = functools.partial(MatrixFactorization, num_users=6, num_items=30)
    terms = [losses.LossTerm(name="pairs", loss=losses.BPR())]
    modules = TrainModules(student, terms, optax.identity())
    message = "num_users=6, the data has 7 users; wanted: num_users=7"
    with pytest.raises(UserError, match=message):
        check_data(modules, SOURCE.load())


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


def test_a_file_of_something_else_is_refused_in_one_line(tmp_path):
    lines, arrays, table = (tmp_path / f"a.{form}" for form in ("jsonl", "npz", "csv"))
    good = {"user": "ann", "item": 3}
    for field, value, shown in (
        ("user", None, "entry 2 is None"),
        ("item", [1, 2], r"entry 2 is \[1, 2\]"),
        ("item", float("nan"), "entry 2 is nan"),
        ("item", True, "entry 2 is True"),
    ):
        entries = (good, {**good, field: value})
        lines.write_text("\n".join(map(json.dumps, entries)))
        with pytest.raises(UserError, match=f"a.jsonl: '{field}' must be .*, {shown}$"):
            Interactions(file=str(lines)).load()
    for values, shown in (
        (np.zeros((2, 2), int), r"int64 \[2, 2\]"),
        (np.array(3), r"int64 \[\]"),
        (np.array([1.0, np.nan]), "entry 2 is nan"),
    ):
        np.savez(arrays, user=values, item=np.arange(2))
        with pytest.raises(UserError, match=f"a.npz: 'user' must be .* {shown}$"):
            Interactions(file=str(arrays)).load()
    text = "user,item\nann,thé\nbob,milk\n"
    table.write_bytes(text.encode("latin-1"))
    for source in (Interactions(file=str(table)), SeriesFile(str(table))):
        with pytest.raises(UserError, match=r"a.csv: not UTF-8 text \(byte 0xe9\)"):
            source.load()
    table.write_bytes(text.encode("utf-8-sig"))
    assert Interactions(file=str(table)).pairs().names == ["milk", "thé"]
    series = tmp_path / "a.npy"
    for content in (b"", arrays.read_bytes()):
        series.write_bytes(content)
        with pytest.raises(UserError, match=r"a.npy: (no array|wanted: an array)"):
            SeriesFile(str(series)).load()
