import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data.mixture import Draws, MixedRows, Mixture, Stage
from runner.data.pipeline import first_rows
from runner.errors import UserError
from tests.runner.data.own_rows import Holder, own

weights = st.lists(st.sampled_from([0, 1, 2, 3, 0.5, 0.25, 7]), min_size=1).filter(any)


def drawn(stages, count, places):
    draws = Draws(stages, count)
    return [draws(place) for place in range(places)]


@given(weights)
def test_counts_are_exact_to_a_row_over_every_prefix(weights):
    shares = np.array(weights) / sum(weights)
    counts = np.zeros(len(weights))
    for place, (part, before) in enumerate(drawn([Stage(weights)], len(weights), 60)):
        assert before == counts[part]
        counts[part] += 1
        assert np.abs(counts - shares * (place + 1)).max() < 1


def test_three_of_four_rows_are_of_the_first():
    parts = [part for part, _ in drawn([Stage((0.75, 0.25))], 2, 8)]
    assert parts == [0, 0, 0, 1] * 2


def test_a_stage_goes_on_where_the_one_before_stood():
    stages = [Stage((1, 0), rows=5), Stage((1, 1), rows=4), Stage((0, 1))]
    draws = drawn(stages, 2, 15)
    assert [part for part, _ in draws[:5]] == [0] * 5
    assert sorted(part for part, _ in draws[5:9]) == [0, 0, 1, 1]
    assert [part for part, _ in draws[9:]] == [1] * 6
    for part in (0, 1):  # no draw twice, and none left out
        counts = [before for number, before in draws if number == part]
        assert counts == list(range(len(counts)))


def mixed(**fields):
    first, second = own(), own()
    second.arrays["tokens"][:] = 2
    return Mixture([Holder(first), Holder(second)], **fields).load()


def ordered(dataset, seed):
    order = dataset.order(seed)
    assert order is not None
    return order


def test_a_run_has_the_shares_and_goes_on_exactly():
    dataset = mixed(weights=(3, 1))
    order = ordered(dataset, seed=5)
    rows = [order(place) for place in range(96)]
    assert sum(row >= 12 for row in rows) == 24
    # Each goes through all of its rows before one comes again.
    of_first = [row for row in rows if row < 12]
    for epoch in range(6):
        assert sorted(of_first[12 * epoch : 12 * epoch + 12]) == list(range(12))
    again = ordered(dataset, seed=5)
    assert [again(place) for place in range(60, 96)] == rows[60:]
    batch = first_rows(dataset, batch_size=8, seed=5)
    assert batch["index"].tolist() == rows[:8]
    assert (batch["tokens"][:, 0] == 2).sum() == 2
    other = ordered(dataset, seed=6)
    assert [other(place) for place in range(96)] != rows


def test_a_row_is_that_of_its_part():
    dataset = mixed(weights=(1, 1))
    tokens = dataset.rows(np.array([13, 0, 23, 11]))["tokens"][:, 0]
    assert tokens.tolist() == [2, 1, 2, 1]
    assert len(dataset) == 24 and dataset.part(3).order(seed=0) is None


def test_the_fingerprint_is_of_parts_and_weights():
    stages = [Stage((1, 0), rows=4), Stage((1, 1))]
    prints = {
        mixed(weights=(1, 1)).fingerprint,
        mixed(weights=(1, 2)).fingerprint,
        mixed(stages=stages).fingerprint,
        mixed(weights=(1, 1)).part(3).fingerprint,
    }
    assert len(prints) == 4
    assert isinstance(mixed(weights=(1, 1)), MixedRows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a mixture has weights or stages, one of the two"),
        ({"weights": (1,)}, "a mixture of 2 data has 1 weights"),
        ({"weights": (1, -1)}, "weights must be 0 or more, and not all 0"),
        ({"weights": (0, 0)}, "weights must be 0 or more, and not all 0"),
        ({"weights": (1, float("nan"))}, "weights must be 0 or more"),
        ({"weights": (0.123456789, 1)}, "write them with fewer digits"),
        ({"stages": [Stage((1, 1)), Stage((1, 0))]}, "a stage before the last has"),
        ({"stages": [Stage((1, 1), rows=9)]}, "the last stage does not end"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Mixture([Holder(own()), Holder(own())], **fields)
