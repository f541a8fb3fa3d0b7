from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data.draws import Draws, Ramp, Stage
from runner.data.mixture import MixedRows, Mixture
from runner.data.pipeline import first_rows
from runner.errors import UserError
from tests.runner.data.own_rows import Holder, own

weights = st.lists(st.sampled_from([0, 1, 2, 3, 0.5, 0.25, 7]), min_size=1).filter(any)


def drawn(stages, count, places):
    draws = Draws(stages, count)
    return [draws(place) for place in range(places)]


def test_numbers_of_numpy_are_weights():
    assert drawn([Stage([np.float64(0.75), np.float32(0.25)])], 2, 8) == drawn(
        [Stage([3, 1])], 2, 8
    )


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
        mixed(stages=[stages[0], Ramp(rows=5), stages[1]]).fingerprint,
        mixed(weights=(1, 1)).part(3).fingerprint,
    }
    assert len(prints) == 5
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
        ({"stages": [Ramp(rows=9), Stage((1, 1))]}, "a ramp stands between two"),
        (
            {"stages": [Stage((1, 1), rows=9), Ramp(rows=0), Stage((1, 1))]},
            "a stage before the last has rows, 1 or more, got 0",
        ),
        ({"stages": [Stage((1, 1), rows=9), Ramp(rows=9)]}, "a ramp stands between"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Mixture([Holder(own()), Holder(own())], **fields)


@given(weights, weights, st.integers(1, 70))
def test_a_ramp_is_within_a_row_of_the_sum_of_its_shares(first, last, rows):
    count = min(len(first), len(last))
    first, last = first[:count], last[:count]
    if not (any(first) and any(last)):
        return
    stages = [Stage(first, rows=3), Ramp(rows=rows), Stage(last)]
    draws = drawn(stages, count, rows + 13)
    a, b = (np.array(x) / sum(x) for x in (first, last))
    due = np.zeros(count)
    counts = np.bincount([part for part, _ in draws[:3]], minlength=count)
    for number, (part, before) in enumerate(draws[3 : 3 + rows]):
        assert before == counts[part]
        counts[part] += 1
        due += a + (b - a) * (number + 0.5) / rows
        in_ramp = counts - np.bincount([p for p, _ in draws[:3]], minlength=count)
        assert np.abs(in_ramp - due).max() < 1 + 1e-9
    for part, before in draws[3 + rows :]:  # and the next stage goes on from there
        assert before == counts[part]
        counts[part] += 1


def test_a_ramp_goes_on_exactly_wherever_it_is_entered():
    stages = [Stage((1, 0, 0), rows=10), Ramp(rows=5000), Stage((1, 2, 5))]
    whole = drawn(stages, 3, 5200)
    again = Draws(stages, 3)
    assert [again(place) for place in (5100, 4000, 17, 0, 5009, 5010)] == [
        whole[place] for place in (5100, 4000, 17, 0, 5009, 5010)
    ]
    parts = np.array([part for part, _ in whole[10:5010]])
    # Half way the shares are half way: (1 + 1/8)/2, (2/8)/2, (5/8)/2.
    middle = np.bincount(parts[2250:2750], minlength=3)
    np.testing.assert_allclose(middle, [281.25, 62.5, 156.25], atol=2)


@pytest.mark.slow
def test_threads_that_read_a_ramp_agree():
    stages = [Stage((3, 1), rows=1), Ramp(rows=2000), Stage((1, 3))]
    shared, places = Draws(stages, 2), list(range(1999, 0, -7))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(shared, places)) == [
            drawn(stages, 2, 2000)[place] for place in places
        ]
