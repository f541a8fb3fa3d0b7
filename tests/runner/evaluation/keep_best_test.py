"""The rule by which a checkpoint is the best."""

import math

import pytest

from runner import KeepBest


def test_lower_or_higher_is_better_by_more_than_the_least_gain():
    lowest = KeepBest(metric="held_out/loss", every=1, min_gain=0.5)
    assert [lowest.improves(x, 3.0) for x in (2.0, 2.5, 3.0, 4.0)] == [True] + 3 * [0]
    highest = KeepBest(metric="held_out/accuracy", every=1, goal="highest")
    assert [highest.improves(x, 0.5) for x in (0.4, 0.5, 0.6)] == [False, False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_never_the_best(value):
    for goal in ("lowest", "highest"):
        rule = KeepBest(metric="held_out/loss", every=1, goal=goal)
        assert not rule.improves(value, None)
        assert not rule.improves(value, 1.0)


def test_it_is_measured_every_so_many_steps_and_at_the_last_but_never_untrained():
    rule = KeepBest(metric="held_out/loss", every=4)
    assert [step for step in range(11) if rule.due(step, 10)] == [4, 8, 10]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "loss"}, "such as 'held_out/loss', got 'loss'"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"min_gain": math.nan}, "min_gain must be finite, not negative, got nan"),
        ({"goal": "least"}, "goal must be 'lowest' or 'highest', got 'least'"),
        ({"metric": "held_out/accuracy"}, "'held_out/accuracy' must be 'highest'"),
        ({"metric": "held_out/gap_closed"}, "closed' must be 'highest'"),
    ],
)
def test_a_rule_that_cannot_choose_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        KeepBest(**{"metric": "held_out/loss", "every": 1, **fields})
